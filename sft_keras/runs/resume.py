"""Whether a run may go on: with the recipe and the data that it began with. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError, numbered
from sft_keras.core.flatten import flatten
from sft_keras.recipe.loader import to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.folder import RECIPE

_FREE = ("checkpoints", "data.memory_share")  # they change nothing about what comes out
DATA = "data"
"""What `allow_changed` says of examples that are not the same any more."""


def require_same_recipe(run: Path, recipe: Recipe, allowed: Sequence[str]) -> bool:
    """Compares a recipe with the one that a run began with.

    Args:
      run: The run's folder.
      recipe: What it is to go on with.
      allowed: Paths of fields that may differ, as `--set` has them; of a section, all below it.

    Returns:
      Whether they differ in what is allowed.

    Raises:
      RunFolderError: Listing the other fields in which they differ.
    """
    began = _flatten_recipe(_read(run / RECIPE))
    given = _flatten_recipe(json.loads(json.dumps(to_plain(recipe))))
    paths = [path for path in {**began, **given} if began.get(path) != given.get(path)]
    changed = [path for path in paths if not _is_below(path, _FREE)]
    refused = [path for path in changed if not _is_below(path, allowed)]
    if refused:
        raise RunFolderError(
            numbered(
                f"A run goes on with the recipe that it began with, which is in {run / RECIPE}.",
                [f"`{p}` was {began.get(p)!r} and is {given.get(p)!r}." for p in refused],
            )
            + "\nLeave the recipe as it was, begin anew in another --run_dir, or let it go on so "
            f"with {' '.join(f'--allow_changed={path}' for path in refused)}."
        )
    return bool(changed)


def require_same_data(run: Path, began: str | None, now: str, allowed: Sequence[str]) -> None:
    """Compares what a run reads with what it began with, by a digest of all examples.

    Raises:
      RunFolderError: If it is not the same, and "data" is not among what is allowed to differ.
    """
    if began is not None and began != now and DATA not in allowed:
        raise RunFolderError(
            f"A run goes on with the data that it began with, and the run in {str(run)!r} now "
            "finds other examples, labels or splits. Bring back the data as it was, begin anew in "
            f"another --run_dir, or let it go on so with --allow_changed={DATA}."
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}), so the run cannot go on. Begin anew with "
            "--overwrite."
        ) from error


def _is_below(path: str, sections: Sequence[str]) -> bool:
    return any(path == section or path.startswith(f"{section}.") for section in sections)


def _flatten_recipe(recipe: Any) -> dict[str, Any]:
    """Return {path: value} with the paths of `--set`; "stages" holds the names of the stages."""
    stages = recipe.get("stages") if isinstance(recipe, Mapping) else None
    names = {"stages": [stage["name"] for stage in stages]} if isinstance(stages, list) else {}
    return {**names, **dict(flatten(recipe, _stage_fields))}


def _stage_fields(path: str, items: list[Any]) -> list[tuple[str, Any]] | None:
    """Expand the list of stages, named by their names; all other lists are leaves."""
    if path != "stages":
        return None
    return [
        (stage["name"], {name: value for name, value in stage.items() if name != "name"})
        for stage in items
    ]
