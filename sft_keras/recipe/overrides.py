"""`--set=PATH=VALUE`: a recipe with single fields replaced, typed from the field. No TensorFlow."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe import field_types
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.stage import Stage


def apply_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Returns `recipe` with each "PATH=VALUE" applied, e.g. "stages.top.learning_rate=1e-4".

    A path names fields from the recipe down; a stage is named by its name, an entry of a mapping
    by its key (`backbone.arguments.alpha=0.75`).

    Raises:
      RecipeError: Listing every override that names no field or whose value does not fit.
    """
    faults: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        try:
            if not equals:
                raise _Fault(
                    f"must read PATH=VALUE, e.g. data.batch_size=64. Received: {override!r}."
                )
            recipe = _replaced(recipe, path.strip().split("."), text.strip(), walked=())
        except _Fault as fault:
            faults.append(f"`{path}`: {fault}")
    if faults:
        raise RecipeError(numbered("An override does not fit the recipe.", faults))
    return recipe


class _Fault(Exception):
    """What is wrong with one override."""


def _replaced(holder: Any, path: Sequence[str], text: str, walked: tuple[str, ...]) -> Any:
    """Returns a copy of `holder` in which the field at `path` is parsed from `text`."""
    name, rest = path[0], path[1:]
    if _holds_sections(holder):
        return _replaced_stage(holder, name, rest, text, walked)
    if isinstance(holder, Mapping):
        if rest:
            raise _Fault(f"'{'.'.join(walked)}' holds plain values; nothing lies below {name!r}.")
        return {**holder, name: field_types.parse(text, Any)}
    if not dataclasses.is_dataclass(holder):
        raise _Fault(f"'{'.'.join(walked)}' is a plain value; nothing lies below it.")
    annotations = field_types.field_types(type(holder))
    if name not in annotations:
        hint = did_you_mean(name, annotations)
        raise _Fault(f"{type(holder).__name__} has no field {name!r}.{hint}")
    value = getattr(holder, name)
    if rest:
        if value is None:
            value = _new_section(annotations[name])
        new = _replaced(value, rest, text, (*walked, name))
    else:
        new = _parsed(text, annotations[name], value)
    return dataclasses.replace(holder, **{name: new})


def _replaced_stage(
    stages: tuple[Stage, ...], name: str, rest: Sequence[str], text: str, walked: tuple[str, ...]
) -> tuple[Stage, ...]:
    names = [stage.name for stage in stages]
    if name not in names:
        known = ", ".join(names)
        raise _Fault(f"there is no stage {name!r}; there are: {known}.{did_you_mean(name, names)}")
    if not rest:
        raise _Fault(f"names a whole stage; name one of its fields, e.g. stages.{name}.epochs.")
    return tuple(
        _replaced(stage, rest, text, (*walked, name)) if stage.name == name else stage
        for stage in stages
    )


def _new_section(annotation: Any) -> Any:
    """Returns the section that a field may hold, with its defaults; None if it may hold none."""
    for member in typing.get_args(annotation):
        if dataclasses.is_dataclass(member):
            return member()
    return None


def _parsed(text: str, annotation: Any, present: Any) -> Any:
    if types.NoneType in typing.get_args(annotation) and text.lower() in ("none", "null"):
        return None  # a section that may be left out, too
    if dataclasses.is_dataclass(present) or _holds_sections(present):
        raise _Fault("names a whole section; name one of its fields instead.")
    try:
        return field_types.parse(text, annotation)
    except ValueError:
        expected = field_types.describe(annotation)
        raise _Fault(f"must be {expected}. Received: {text!r}.") from None


def _holds_sections(value: Any) -> bool:
    return isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value)
