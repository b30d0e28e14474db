"""Plan trials: points of a grid or backbones, each with several seeds or folds. No TensorFlow."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sft_keras.core.errors import RecipeError
from sft_keras.core.output import join_command, split_command
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage

_SHOWN_FAULTS = 5
# Flags of a command for trials that do not apply to a single run.
_TRIAL_FLAGS = ("sweep", "compare_backbones", "seeds", "folds", "run_dir")
_TRIAL_SWITCHES = ("overwrite", "nooverwrite")


@dataclasses.dataclass(frozen=True)
class Point:
    """One variant of the recipe, a row of the comparison.

    Attributes:
      name: What distinguishes it from the other points.
      overrides: "PATH=VALUE" strings, as `--set` takes them, that reproduce it.
      recipe: The recipe with the overrides.
    """

    name: str
    overrides: tuple[str, ...]
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class TrialPlan:
    """The trials to run: every point with each seed, or on each fold.

    Attributes:
      kind: "sweep", "backbones" or "repeats".
      points: The rows of the comparison.
      seeds: Seeds of everything but the splits, one per trial of a point; one for all folds.
      folds: Number of folds of the training and validation examples; None without folds.
    """

    kind: str
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    folds: int | None

    @property
    def repeats(self) -> int:
        """Number of trials per point."""
        return self.folds or len(self.seeds)

    @property
    def trials(self) -> int:
        """Number of trials of all points."""
        return len(self.points) * self.repeats


def plan_trials(
    recipe: Recipe,
    *,
    sweep: Sequence[str] = (),
    backbones: Sequence[str] = (),
    seeds: int | None = None,
    folds: int | None = None,
) -> TrialPlan:
    """Return the trials for the given flags.

    Args:
      recipe: The recipe to vary.
      sweep: "PATH=VALUE,VALUE,..." strings with override paths. They span a grid in which the first
        varies slowest. Values that contain commas are separated by ";".
      backbones: Presets to compare, each frozen with a new head.
      seeds: Number of seeds, counted up from the recipe's; the splits stay the same.
      folds: Number of folds for cross-validation.

    Raises:
      RecipeError: If the flags cannot be combined, or a point is not valid.

    Example:
      >>> plan_trials(recipe, sweep=["stages.head.learning_rate=1e-3,1e-2"], seeds=3).trials
      6
    """
    if sweep and backbones:
        raise RecipeError(
            "--sweep and --compare_backbones cannot be combined. Run one after the other."
        )
    if seeds is not None and folds is not None:
        raise RecipeError("--seeds and --folds cannot be combined: all folds train with one seed.")
    for name, count in (("seeds", seeds), ("folds", folds)):
        if count is not None and count < 2:
            raise RecipeError(f"--{name} must be 2 or more. Received: {count}.")
    kind = "sweep" if sweep else "backbones" if backbones else "repeats"
    if sweep:
        points = _grid(recipe, sweep)
    elif backbones:
        _require_distinct("--compare_backbones", "preset", backbones)
        points = tuple(_probe(recipe, preset) for preset in backbones)
    else:
        points = (Point("recipe", (), recipe),)
    _validate(points)
    return TrialPlan(kind, points, tuple(range(recipe.seed, recipe.seed + (seeds or 1))), folds)


def one_run(command: str, overrides: Sequence[str]) -> str:
    """Return the command of one whole run with `overrides`.

    Args:
      command: The command line or Python call that ran the trials.
      overrides: The overrides of a point.
    """
    if not command.startswith("python "):
        return f"sft_keras.finetune(recipe, overrides={list(overrides)!r})"
    kept = _without_trial_flags(split_command(command))
    return join_command([*kept, *(f"--set={override}" for override in overrides)])


def _without_trial_flags(words: Sequence[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in (*_TRIAL_FLAGS, *_TRIAL_SWITCHES):
            yield word
        elif not equals and name in _TRIAL_FLAGS:
            next(rest, None)  # as in "--seeds 3"


def _grid(recipe: Recipe, sweep: Sequence[str]) -> tuple[Point, ...]:
    axes = [_axis(text) for text in sweep]
    _require_distinct("--sweep", "field", [path for path, _ in axes])
    for path, values in axes:
        _require_distinct(f"--sweep={path}", "value", values)
    choices = [[f"{path}={value}" for value in values] for path, values in axes]
    # All values at once, so that the error names every invalid one.
    apply_overrides(recipe, [override for axis in choices for override in axis])
    return tuple(
        Point(", ".join(overrides), overrides, apply_overrides(recipe, overrides))
        for overrides in itertools.product(*choices)
    )


def _axis(text: str) -> tuple[str, list[str]]:
    """Parse "PATH=VALUE,VALUE,..." into the path and its values."""
    path, equals, listed = text.partition("=")
    values = listed.split(";" if ";" in listed else ",")
    values = [value.strip() for value in values if value.strip()]
    if not path.strip() or not equals or not values:
        raise RecipeError(
            "--sweep must be PATH=VALUE,VALUE,..., e.g. "
            f"stages.head.learning_rate=1e-4,1e-3. Received: {text!r}."
        )
    return path.strip(), values


def _probe(recipe: Recipe, preset: str) -> Point:
    """Return a point with the recipe's first stage on another backbone, fully frozen."""
    head: Stage = dataclasses.replace(recipe.stages[0], unfreeze=0)
    backbone, overrides = _with_preset(recipe.backbone, preset)
    varied = dataclasses.replace(recipe, backbone=backbone, stages=(head,))
    return Point(preset, overrides, varied)


def _with_preset(backbone: Backbone, preset: str) -> tuple[Backbone, tuple[str, ...]]:
    """Return the backbone section with another preset, and the overrides that make it so."""
    if preset == backbone.preset:
        return backbone, ()
    # Settings of the recipe's own backbone need not apply to another.
    weights = None if backbone.weights is None else "pretrained"
    changes: dict[str, Any] = {"preset": preset, "weights": weights, "arguments": {}}
    overrides = tuple(
        f"backbone.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in changes.items()
        if value != getattr(backbone, name)
    )
    return dataclasses.replace(backbone, **changes), overrides


def _require_distinct(flag: str, what: str, values: Sequence[str]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise RecipeError(
            f"{flag} must name each {what} once. Received more than once: {', '.join(repeated)}."
        )


def _validate(points: Sequence[Point]) -> None:
    """Raise a `RecipeError` that lists why each invalid point is invalid."""
    faults = []
    for point in points:
        try:
            point.recipe.validate()
        except RecipeError as error:
            faults.append(f"{point.name}: {error}")
    if not faults:
        return
    more = len(faults) - _SHOWN_FAULTS
    shown = [*faults[:_SHOWN_FAULTS], *([f"... and {more} more."] if more > 0 else [])]
    raise RecipeError("\n".join(shown))
