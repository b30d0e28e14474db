"""Recipes as JSON, such as a run folder's `recipe.json`. Unlike a Python recipe it runs no code.

Does not import TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe.field_types import field_types, structure_error
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.recipe.task_registry import task_class, task_kinds

_MAX_BYTES = 2**20  # a recipe takes a few thousand


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a JSON file.

    Raises:
      RecipeError: If the file cannot be read or does not hold a recipe.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecipeError(f"{path} is larger than {_MAX_BYTES:,} bytes, so it is not a recipe.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"The recipe {path} cannot be read as JSON: {error}") from error
    try:
        return recipe_from_plain(values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def recipe_from_plain(values: Any) -> Recipe:
    """Return the recipe that plain values describe; the inverse of `loader.to_plain`.

    Raises:
      RecipeError: Naming the first field that a recipe does not have or whose structure is wrong.
    """
    recipe: Recipe = _read_section("", Recipe, values)
    return recipe


def task_from_plain(values: Any) -> TaskConfig:
    """Return the task that plain values describe, as `recipe_from_plain` does.

    Raises:
      RecipeError: If its kind is unknown, or a field is wrong.
    """
    task: TaskConfig = _read_section("task", TaskConfig, values)
    return task


def _read_section(path: str, cls: type, values: Any) -> Any:
    """Return a section built from a JSON object.

    Args:
      path: Path of the section, for messages; "" for the recipe itself.
      cls: Its class; for `TaskConfig`, the subclass that "kind" names is used.
      values: The JSON value.
    """
    if cls is TaskConfig:
        cls = _named_task(path, values)
    if not isinstance(values, Mapping):
        raise structure_error(path, f"must be an object with the fields of {cls.__name__}", values)
    types = field_types(cls)
    fields = {}
    for name, value in values.items():
        if name == "kind" and issubclass(cls, TaskConfig):
            continue
        if name not in types:
            raise RecipeError(
                f"`{_join(path, name)}`: {cls.__name__} has no field {name!r}."
                f"{did_you_mean(str(name), types)}"
            )
        fields[name] = types[name].read(_join(path, name), value, _read_section)
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.name not in fields
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        headline = f"`{path or 'the recipe'}` lacks required fields of {cls.__name__}."
        raise RecipeError(numbered(headline, [f"`{_join(path, name)}`" for name in missing]))
    return cls(**fields)


def _named_task(path: str, values: Any) -> type[TaskConfig]:
    """Return the task class that "kind" names."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    # A list or an object cannot be looked up.
    if not isinstance(kind, str) or (kind not in task_kinds() and ":" not in kind):
        raise structure_error(f"{path}.kind", f"must be one of {', '.join(task_kinds())}", kind)
    return task_class(kind)


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
