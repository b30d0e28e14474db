"""Check that a resumed run continues with its recipe and data. No TensorFlow."""

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

_NEUTRAL_FIELDS = ("checkpoints", "data.memory_share")  # they do not affect results
DATA = "data"
"""The entry of `allow_changed` that permits changed examples."""


def require_same_recipe(run: Path, recipe: Recipe, allowed: Sequence[str]) -> bool:
    """Compare a recipe with the one that a run was started with.

    Args:
      run: The run folder.
      recipe: The recipe to resume with.
      allowed: Paths of fields that may differ, as in `--set`; a section stands for all its fields.

    Returns:
      Whether the recipes differ in allowed fields.

    Raises:
      RunFolderError: Listing the other fields in which they differ.
    """
    original = _flatten_recipe(_read(run / RECIPE))
    current = _flatten_recipe(json.loads(json.dumps(to_plain(recipe))))
    paths = [path for path in {**original, **current} if original.get(path) != current.get(path)]
    changed = [path for path in paths if not _is_below(path, _NEUTRAL_FIELDS)]
    refused = [path for path in changed if not _is_below(path, allowed)]
    if refused:
        raise RunFolderError(
            numbered(
                f"A run must be resumed with its own recipe, which is in {run / RECIPE}.",
                [f"`{p}` was {original.get(p)!r} and is {current.get(p)!r}." for p in refused],
            )
            + "\nRestore the recipe, start a new run in another --run_dir, or allow the changes "
            f"with {' '.join(f'--allow_changed={path}' for path in refused)}."
        )
    return bool(changed)


def require_same_data(run: Path, began: str | None, now: str, allowed: Sequence[str]) -> None:
    """Compare the data of a resumed run with the data that it was started with.

    Args:
      run: The run folder.
      began: Digest of all examples at the start; None if it was not recorded.
      now: Digest of all examples now.
      allowed: What may differ; "data" permits other examples.

    Raises:
      RunFolderError: If the digests differ and "data" is not allowed to.
    """
    if began is not None and began != now and DATA not in allowed:
        raise RunFolderError(
            f"A run must be resumed with its own data, and the run in {str(run)!r} now finds other "
            "examples, labels or splits. Restore the data, start a new run in another --run_dir, "
            f"or allow the change with --allow_changed={DATA}."
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}), so the run cannot be resumed. Start again with "
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
