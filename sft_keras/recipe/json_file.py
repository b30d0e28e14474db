"""A recipe as a JSON file, which runs no code: what `recipe.json` of a run folder holds.

Does not import TensorFlow.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe import field_types
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.recipe.task_registry import TASKS, task_class

_LARGEST = 2**20  # bytes; a recipe takes some thousand


def read_recipe(path: Path) -> Recipe:
    """Returns the recipe that a JSON file says.

    Raises:
      RecipeError: If it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise RecipeError(f"{path} is over {_LARGEST:,} bytes, and so no recipe.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"The recipe {path} cannot be read as JSON: {error}") from error
    try:
        return recipe_from_plain(values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def recipe_from_plain(values: Any) -> Recipe:
    """Returns the recipe that plain values say, as `to_plain` gives them; the inverse of that.

    Raises:
      RecipeError: Naming the first thing in them that no recipe has.
    """
    return _section("", Recipe, values)


def _section(path: str, cls: type, values: Any) -> Any:
    """Returns a section of a recipe made of plain values."""
    if not isinstance(values, Mapping):
        raise _fault(path, f"must hold the fields of {cls.__name__}", values)
    annotations = field_types.field_types(cls)
    made = {}
    for name, value in values.items():
        if name == "kind" and issubclass(cls, TaskConfig):
            continue
        if name not in annotations:
            raise RecipeError(
                f"`{_below(path, name)}`: {cls.__name__} has no field {name!r}."
                f"{did_you_mean(str(name), annotations)}"
            )
        made[name] = _value(_below(path, name), annotations[name], value)
    lacking = [
        field.name
        for field in dataclasses.fields(cls)
        if field.name not in made
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if lacking:
        headline = f"`{path or 'the recipe'}` lacks fields of {cls.__name__}."
        raise RecipeError(numbered(headline, [f"`{_below(path, name)}`" for name in lacking]))
    return cls(**made)


def _value(path: str, annotation: Any, value: Any) -> Any:
    """Returns a field's value; whether it fits in all else is for `Recipe.validate` to say."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is TaskConfig:
        return _section(path, _task(path, value), value)
    if dataclasses.is_dataclass(annotation):
        return _section(path, annotation, value)
    if origin in (Union, types.UnionType):
        sections = [member for member in members if dataclasses.is_dataclass(member)]
        if sections and isinstance(value, Mapping):
            return _section(path, sections[0], value)
        rows = [member for member in members if typing.get_origin(member) is tuple]
        return _value(path, rows[0], value) if rows and isinstance(value, list) else value
    if origin is tuple:
        is_row = isinstance(value, list)
        kinds = [members[0]] * len(value) if is_row and members[-1] is Ellipsis else members
        if not is_row or len(kinds) != len(value):
            raise _fault(path, f"must be {field_types.describe(annotation)}", value)
        return tuple(
            _value(f"{path}.{number}", kind, item)
            for number, (kind, item) in enumerate(zip(kinds, value))
        )
    if origin is collections.abc.Mapping and not isinstance(value, Mapping):
        raise _fault(path, f"must be {field_types.describe(annotation)}", value)
    return value


def _task(path: str, values: Any) -> type:
    """Returns the class that a task's "kind" names."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in TASKS:
        raise _fault(f"{path}.kind", f"must be one of {', '.join(TASKS)}", kind)
    return task_class(kind)


def _below(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _fault(path: str, expected: str, received: Any) -> RecipeError:
    shown = repr(received)
    shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
    return RecipeError(f"`{path or 'the recipe'}` {expected}. Received: {shown}.")
