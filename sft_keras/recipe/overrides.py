"""`--set=PATH=VALUE`: replace single fields of a recipe. Does not import TensorFlow.

A value's text is parsed by the type of the field that it replaces.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe.field_types import FieldType, OneOf, field_type, field_types, no_section
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import did_you_mean
from sft_keras.recipe.stage import Stage


def apply_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return a recipe with fields replaced.

    Args:
      recipe: The recipe, which is not changed.
      overrides: "PATH=VALUE" each, e.g. "stages.top.learning_rate=1e-4". A path names fields from
        the recipe down; a stage is named by its name, an entry of a mapping by its key
        (`backbone.arguments.alpha=0.75`).

    Raises:
      RecipeError: Listing every override whose path names no field or whose value does not fit.
    """
    faults: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        try:
            if not equals:
                raise _Fault(
                    f"must read PATH=VALUE, e.g. data.batch_size=64. Received: {override!r}."
                )
            recipe = _replace(recipe, path.strip().split("."), text.strip() or text, walked=())
        except _Fault as fault:
            hint = "" if "Did you mean" in str(fault) else _full_path_hint(recipe, path.strip())
            faults.append(f"`{path}`: {fault}{hint}")
    if faults:
        raise RecipeError(numbered("These overrides do not fit the recipe.", faults))
    return recipe


_ALIASES = {
    "bs": "batch_size",
    "lr": "learning_rate",
    "max_length": "sequence_length",
    "max_seq_length": "sequence_length",
    "model": "preset",
    "num_epochs": "epochs",
    "size": "image_size",
    "wd": "weight_decay",
}
_MAX_HINTS = 4


def _full_path_hint(recipe: Recipe, path: str) -> str:
    """Return the full paths of the fields that an unknown path may mean, e.g. for "epochs"."""
    name = path.split(".")[-1]
    paths = list(_field_paths(recipe))
    if path in paths:
        return ""
    names = {known.split(".")[-1] for known in paths}
    name = _ALIASES.get(name, name)
    if name not in names:
        name = next(iter(difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.8)), "")
    matches = [known for known in paths if known.split(".")[-1] == name][:_MAX_HINTS]
    if not matches:
        return ""
    return f" Did you mean {' or '.join(f'--set={match}=...' for match in matches)}?"


def _field_paths(holder: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of every field below a section."""
    for field in dataclasses.fields(holder):
        path, value = f"{prefix}{field.name}", getattr(holder, field.name)
        yield path
        if _is_section(value):
            yield from _field_paths(value, f"{path}.")
        elif _holds_sections(value):
            for stage in value:
                yield from _field_paths(stage, f"{path}.{stage.name}.")


class _Fault(Exception):
    """What is wrong with one override."""


def _replace(holder: Any, path: Sequence[str], text: str, walked: tuple[str, ...]) -> Any:
    """Return a copy of a section, a mapping or the stages with one value replaced.

    Args:
      holder: What to copy.
      path: Where the value is, from `holder` down.
      text: The new value, to be parsed.
      walked: Path of `holder` itself, for messages.
    """
    name, rest = path[0], path[1:]
    if _holds_sections(holder):
        return _replace_in_stage(holder, path, text, walked)
    if isinstance(holder, Mapping):
        if rest:
            raise _Fault(f"'{'.'.join(walked)}' holds plain values; {name!r} has no fields.")
        return {**holder, name: field_type(Any).parse(text)}
    if not _is_section(holder):
        raise _Fault(f"'{'.'.join(walked)}' is a plain value; it has no fields.")
    cls: type = type(holder)
    types = field_types(cls)
    if name not in types:
        raise _Fault(f"{cls.__name__} has no field {name!r}.{did_you_mean(name, types)}")
    value = getattr(holder, name)
    if rest:
        section = _default_section(types[name]) if value is None else value
        replacement = _replace(section, rest, text, (*walked, name))
        if isinstance(section, Mapping):
            replacement = types[name].read(name, replacement, no_section)
    else:
        replacement = _parse(text, types[name], value)
    return dataclasses.replace(holder, **{name: replacement})


def _replace_in_stage(
    stages: tuple[Stage, ...], path: Sequence[str], text: str, walked: tuple[str, ...]
) -> tuple[Stage, ...]:
    """Return stages with a field of one of them replaced; `path` begins with its name."""
    name, rest = path[0], path[1:]
    names = [stage.name for stage in stages]
    if name not in names:
        known = ", ".join(names)
        raise _Fault(f"there is no stage {name!r}; there are: {known}.{did_you_mean(name, names)}")
    if not rest:
        raise _Fault(f"names a whole stage; name one of its fields, e.g. stages.{name}.epochs.")
    return tuple(
        _replace(stage, rest, text, (*walked, name)) if stage.name == name else stage
        for stage in stages
    )


def _default_section(kind: FieldType) -> Any:
    """Return the section that an empty field may hold, with defaults; None if it holds none."""
    return kind.section.cls() if isinstance(kind, OneOf) and kind.section is not None else None


def _parse(text: str, kind: FieldType, present: Any) -> Any:
    """Return the value for a field of type `kind` that holds `present` now."""
    if isinstance(kind, OneOf) and kind.is_optional and text.lower() in ("none", "null"):
        return None  # also in place of a section
    if _is_section(present) or _holds_sections(present):
        raise _Fault("names a whole section; name one of its fields instead.")
    try:
        return kind.parse(text)
    except ValueError:
        raise _Fault(f"must be {kind.description}. Received: {text!r}.") from None


def _holds_sections(value: Any) -> bool:
    return isinstance(value, tuple) and any(map(_is_section, value))


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value)
