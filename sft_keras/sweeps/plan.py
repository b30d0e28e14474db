"""What to try: points of a grid, or backbones, each with several seeds or folds. No TensorFlow."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterator, Sequence

from sft_keras.core.errors import RecipeError
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage

_SHOWN_FAULTS = 5
# What one run has no use for, of the flags of a command that ran trials.
_TRIAL_FLAGS = ("sweep", "compare_backbones", "seeds", "folds", "run_dir")
_TRIAL_SWITCHES = ("overwrite", "nooverwrite")


@dataclasses.dataclass(frozen=True)
class Point:
    """One variant of the recipe: a row of the comparison.

    Attributes:
      name: What sets it apart.
      overrides: As `--set` takes them, to be repeated with.
      recipe: With the overrides.
    """

    name: str
    overrides: tuple[str, ...]
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class TrialPlan:
    """Which trials there are: every point is repeated with each seed, or on each fold.

    Attributes:
      kind: "sweep", "backbones" or "repeats".
      points: The rows of the comparison.
      seeds: A trial's seed of all but the splits; for folds all the same.
      folds: Into how many folds training and validation examples are divided; None for none.
    """

    kind: str
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    folds: int | None

    @property
    def repeats(self) -> int:
        """Trials of each point."""
        return self.folds or len(self.seeds)

    @property
    def trials(self) -> int:
        """Trials of all points."""
        return len(self.points) * self.repeats


def plan_trials(
    recipe: Recipe,
    *,
    sweep: Sequence[str] = (),
    backbones: Sequence[str] = (),
    seeds: int | None = None,
    folds: int | None = None,
) -> TrialPlan:
    """Returns the trials that the flags ask for.

    Args:
      recipe: What is varied.
      sweep: "PATH=VALUE,VALUE,..." each, as overrides have it; a grid over all of them, the first
        of which varies slowest. Values that hold commas themselves are separated by ";".
      backbones: Presets to probe with a new head, frozen.
      seeds: How many seeds, counted up from the recipe's; the splits stay the same.
      folds: How many folds.

    Raises:
      RecipeError: If they do not go together, or a point cannot run.
    """
    if sweep and backbones:
        raise RecipeError("Give either --sweep or --compare_backbones, one after the other.")
    if seeds is not None and folds is not None:
        raise RecipeError("Give either --seeds or --folds: a fold is trained with one seed.")
    for name, count in (("seeds", seeds), ("folds", folds)):
        if count is not None and count < 2:
            raise RecipeError(f"--{name} must be 2 or more. Received: {count}.")
    kind = "sweep" if sweep else "backbones" if backbones else "repeats"
    if sweep:
        points = _grid(recipe, sweep)
    elif backbones:
        _require_different("--compare_backbones", "preset", backbones)
        points = tuple(_probe(recipe, preset) for preset in backbones)
    else:
        points = (Point("recipe", (), recipe),)
    _validate(points)
    return TrialPlan(kind, points, tuple(range(recipe.seed, recipe.seed + (seeds or 1))), folds)


def one_run(command: str, overrides: Sequence[str]) -> str:
    """Returns the command of one whole run with `overrides`.

    Args:
      command: What ran the trials, on the command line or in Python.
      overrides: Of a point.
    """
    if not command.startswith("python "):
        return f"sft_keras.finetune(recipe, overrides={list(overrides)!r})"
    kept = _without_trial_flags(shlex.split(command))
    return shlex.join([*kept, *(f"--set={override}" for override in overrides)])


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
    _require_different("--sweep", "field", [path for path, _ in axes])
    for path, values in axes:
        _require_different(f"--sweep={path}", "value", values)
    choices = [[f"{path}={value}" for value in values] for path, values in axes]
    # All at once, so that every value that does not fit is named.
    apply_overrides(recipe, [override for axis in choices for override in axis])
    return tuple(
        Point(", ".join(overrides), overrides, apply_overrides(recipe, overrides))
        for overrides in itertools.product(*choices)
    )


def _axis(text: str) -> tuple[str, list[str]]:
    """Returns the path and the values of "PATH=VALUE,VALUE,..."."""
    path, equals, listed = text.partition("=")
    values = listed.split(";" if ";" in listed else ",")
    values = [value.strip() for value in values if value.strip()]
    if not path.strip() or not equals or not values:
        raise RecipeError(
            "--sweep must read PATH=VALUE,VALUE,..., e.g. "
            f"stages.head.learning_rate=1e-4,1e-3. Received: {text!r}."
        )
    return path.strip(), values


def _probe(recipe: Recipe, preset: str) -> Point:
    """Returns the recipe's first stage on another backbone, all of which stays frozen."""
    head: Stage = dataclasses.replace(recipe.stages[0], unfreeze=0)
    backbone, overrides = _other_backbone(recipe.backbone, preset)
    varied = dataclasses.replace(recipe, backbone=backbone, stages=(head,))
    return Point(preset, overrides, varied)


def _other_backbone(backbone: Backbone, preset: str) -> tuple[Backbone, tuple[str, ...]]:
    """Returns a recipe's section with another preset, and the overrides that make it so."""
    if preset == backbone.preset:
        return backbone, ()
    # What was said of the recipe's own backbone need not be true of another.
    weights = None if backbone.weights is None else "pretrained"
    changes = {"preset": preset, "weights": weights, "arguments": {}}
    overrides = tuple(
        f"backbone.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in changes.items()
        if value != getattr(backbone, name)
    )
    return dataclasses.replace(backbone, **changes), overrides


def _require_different(flag: str, what: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise RecipeError(
            f"{flag} must name each {what} once. Received more than once: {', '.join(twice)}."
        )


def _validate(points: Sequence[Point]) -> None:
    """Raises a `RecipeError` that says of each point why it cannot run."""
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
