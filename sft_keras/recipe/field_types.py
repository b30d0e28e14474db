"""The types of a recipe's fields: checking, parsing and describing their values.

A field is described once, by its annotation. `field_type` walks an annotation and returns a
`FieldType`, which

- checks a Python value (`matches`),
- parses the text of an override (`parse`),
- reads a value from a JSON file (`read`), and
- describes the values it accepts in messages (`description`).

Standard library only.
"""

from __future__ import annotations

import abc
import collections.abc
import dataclasses
import functools
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, Union

from typing_extensions import override

from sft_keras.core.errors import RecipeError

SectionReader: TypeAlias = Callable[[str, type, Any], Any]
"""Called with (path, class of a section, JSON value); returns the section."""

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LONGEST_SHOWN = 80  # characters of a received value


class FieldType(abc.ABC):
    """The type of a field's value.

    Attributes:
      description: The accepted values, in words that finish "must be ...".
      plural: The same for several values, in words that finish "a list of ...".
    """

    description: str
    plural: str

    @abc.abstractmethod
    def matches(self, value: Any) -> bool:
        """Return whether a Python value is of this type."""

    def parse(self, text: str) -> Any:
        """Return the value that an override's text stands for.

        Raises:
          ValueError: If no value of this type can be written as `text`.
        """
        raise ValueError(text)

    def read(self, path: str, value: Any, read_section: SectionReader) -> Any:
        """Return the value that a JSON value stands for, e.g. a tuple for a list.

        Only the structure is converted: a plain value is returned as it is, for
        `Recipe.validate` to check.

        Args:
          path: Path of the field, for messages.
          value: The JSON value.
          read_section: Builds the sections within the value.

        Raises:
          RecipeError: If the structure is not that of this type.
        """
        return value


def field_type(annotation: Any) -> FieldType:
    """Return the type that an annotation stands for.

    Example:
      >>> rate = field_type(float | None)
      >>> rate.description, rate.matches("fast"), rate.parse("1e-4"), rate.parse("none")
      ('a number or none', False, 0.0001, None)
    """
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object):
        return _AnyValue()
    if annotation is None or annotation is types.NoneType:
        return _NoneValue()
    if origin in (Union, types.UnionType):
        return OneOf([field_type(member) for member in members])
    if origin is Literal:
        return _Choice(members)
    if origin is tuple:
        if len(members) == 2 and members[1] is Ellipsis:
            return _ListOf(field_type(members[0]))
        return _TupleOf([field_type(member) for member in members])
    if origin is collections.abc.Mapping:
        return _MappingOf(field_type(members[0]), field_type(members[1]))
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    # The base class of tasks is no dataclass; like every section it lists its faults.
    is_section = dataclasses.is_dataclass(annotation) or hasattr(annotation, "faults")
    return SectionOf(annotation) if is_section else _Instance(annotation)


@functools.cache
def field_types(cls: type) -> dict[str, FieldType]:
    """Return {field name: type} of a dataclass."""
    annotations = typing.get_type_hints(cls)
    return {field.name: field_type(annotations[field.name]) for field in dataclasses.fields(cls)}


def structure_error(path: str, expected: str, received: Any) -> RecipeError:
    """Return the error for a JSON value of the wrong structure.

    Args:
      path: Path of the field; "" for the recipe itself.
      expected: Words that finish "`path` ...".
      received: The value, which is truncated to 80 characters.
    """
    shown = repr(received)
    shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
    return RecipeError(f"`{path or 'the recipe'}` {expected}. Received: {shown}.")


class _AnyValue(FieldType):
    """Any value; an override's text is JSON where it is valid JSON, and itself otherwise."""

    description, plural = "any value", "any values"

    @override
    def matches(self, value: Any) -> bool:
        return True

    @override
    def parse(self, text: str) -> Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text


class _NoneValue(FieldType):
    description, plural = "none", "none"

    @override
    def matches(self, value: Any) -> bool:
        return value is None

    @override
    def parse(self, text: str) -> None:
        if text.lower() not in ("none", "null"):
            raise ValueError(text)


class _Bool(FieldType):
    description, plural = "true or false", "true or false values"

    @override
    def matches(self, value: Any) -> bool:
        return isinstance(value, bool)

    @override
    def parse(self, text: str) -> bool:
        if text.lower() not in _TRUTH:
            raise ValueError(text)
        return _TRUTH[text.lower()]


class _Int(FieldType):
    """A signed 64-bit integer; not a bool, which to Python is an int."""

    description, plural = "a whole number", "whole numbers"

    @override
    def matches(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63

    @override
    def parse(self, text: str) -> int:
        return int(text)


class _Float(FieldType):
    """A finite number of at most 64 bits, whole numbers included."""

    description, plural = "a number", "numbers"

    @override
    def matches(self, value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) <= sys.float_info.max  # which NaN is not

    @override
    def parse(self, text: str) -> float:
        return float(text)


class _Text(FieldType):
    description, plural = "text", "texts"

    @override
    def matches(self, value: Any) -> bool:
        return isinstance(value, str)

    @override
    def parse(self, text: str) -> str:
        return text


_PLAIN: Mapping[type, FieldType] = {bool: _Bool(), int: _Int(), float: _Float(), str: _Text()}


class _Choice(FieldType):
    """One of a few constants."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = tuple(values)
        self.description = self.plural = " or ".join(map(repr, values))

    @override
    def matches(self, value: Any) -> bool:
        return value in self._values

    @override
    def parse(self, text: str) -> Any:
        for value in self._values:
            if str(value) == text:
                return value
        raise ValueError(text)


class OneOf(FieldType):
    """A value of one of several types.

    Attributes:
      is_optional: Whether None is one of them.
      section: The first of them that is a section; None if none is.
    """

    def __init__(self, members: Sequence[FieldType]) -> None:
        self._members = members
        self.is_optional = any(isinstance(member, _NoneValue) for member in members)
        sections = [member for member in members if isinstance(member, SectionOf)]
        self.section = sections[0] if sections else None
        named = [member for member in members if not isinstance(member, _AnyValue)]
        self.description = " or ".join(member.description for member in named)
        self.plural = " or ".join(member.plural for member in named)

    @override
    def matches(self, value: Any) -> bool:
        return any(member.matches(value) for member in self._members)

    @override
    def parse(self, text: str) -> Any:
        # None first and text last: "none" is not a name, nor is "2" where a number fits.
        ranked = sorted(
            self._members,
            key=lambda member: (not isinstance(member, _NoneValue), isinstance(member, _Text)),
        )
        for member in ranked:
            try:
                return member.parse(text)
            except ValueError:
                continue
        raise ValueError(text)

    @override
    def read(self, path: str, value: Any, read_section: SectionReader) -> Any:
        if self.section is not None and isinstance(value, Mapping):
            return self.section.read(path, value, read_section)
        lists = [member for member in self._members if isinstance(member, _ListOf | _TupleOf)]
        if lists and isinstance(value, list):
            return lists[0].read(path, value, read_section)
        mappings = [member for member in self._members if isinstance(member, _MappingOf)]
        if mappings and isinstance(value, Mapping):
            return mappings[0].read(path, value, read_section)
        return value


class _Items(FieldType):
    """A tuple, which JSON has as a list and an override as "1,2" or, without text, "1x2"."""

    _holds_text: bool

    @abc.abstractmethod
    def _types(self, length: int) -> Sequence[FieldType]:
        """Return the type of each item of a tuple that has `length` items, or should have."""

    @override
    def matches(self, value: Any) -> bool:
        if not isinstance(value, tuple):
            return False
        kinds = self._types(len(value))
        return len(value) == len(kinds) and all(
            kind.matches(item) for item, kind in zip(value, kinds)
        )

    @override
    def parse(self, text: str) -> Any:
        text = text.strip("() ")
        if not self._holds_text:
            text = text.replace("x", ",")  # 96x128
        items = [item for item in text.split(",") if item.strip()]
        kinds = self._types(len(items))
        if len(items) != len(kinds):
            raise ValueError(text)
        return tuple(kind.parse(item.strip()) for item, kind in zip(items, kinds))

    @override
    def read(self, path: str, value: Any, read_section: SectionReader) -> Any:
        kinds = self._types(len(value)) if isinstance(value, list) else ()
        if not isinstance(value, list) or len(kinds) != len(value):
            raise structure_error(path, f"must be {self.description}", value)
        return tuple(
            kind.read(f"{path}.{index}", item, read_section)
            for index, (kind, item) in enumerate(zip(kinds, value))
        )


class _ListOf(_Items):
    """A tuple of any length whose items are of one type."""

    def __init__(self, item: FieldType) -> None:
        self._item, self._holds_text = item, isinstance(item, _Text)
        self.description, self.plural = f"a list of {item.plural}", f"lists of {item.plural}"

    @override
    def _types(self, length: int) -> Sequence[FieldType]:
        return [self._item] * length


class _TupleOf(_Items):
    """A tuple of a fixed length."""

    def __init__(self, items: Sequence[FieldType]) -> None:
        self._items, self._holds_text = items, any(isinstance(item, _Text) for item in items)
        self.description = f"({', '.join(item.description for item in items)})"
        self.plural = f"tuples {self.description}"

    @override
    def _types(self, length: int) -> Sequence[FieldType]:
        return self._items


class _MappingOf(FieldType):
    """A mapping, which an override has as a JSON object."""

    description, plural = 'a mapping such as {"key": value}', "mappings"

    def __init__(self, key: FieldType, item: FieldType) -> None:
        self._key, self._item = key, item

    @override
    def matches(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            self._key.matches(key) and self._item.matches(item) for key, item in value.items()
        )

    @override
    def parse(self, text: str) -> Any:
        loaded = json.loads(text)
        if isinstance(loaded, Mapping):
            loaded = self.read("", loaded, no_section)
        if not self.matches(loaded):
            raise ValueError(text)
        return loaded

    @override
    def read(self, path: str, value: Any, read_section: SectionReader) -> Any:
        if not isinstance(value, Mapping):
            raise structure_error(path, f"must be {self.description}", value)
        return {
            key: self._item.read(f"{path}.{key}", item, read_section) for key, item in value.items()
        }


def no_section(path: str, cls: type, value: Any) -> Any:
    """Refuse a section; the `SectionReader` where there can be none."""
    raise ValueError(f"{path} is a section, which an override cannot replace as a whole")


class _Instance(FieldType):
    """An instance of a class, which only Python code can create."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        article = "an" if cls.__name__[0] in "AEIOU" else "a"
        self.description, self.plural = f"{article} {cls.__name__}", cls.__name__

    @override
    def matches(self, value: Any) -> bool:
        return isinstance(value, self.cls) and not isinstance(value, bool)


class SectionOf(_Instance):
    """A section of a recipe, or the base class of sections; JSON has it as an object.

    Attributes:
      cls: The annotated class.
    """

    @override
    def read(self, path: str, value: Any, read_section: SectionReader) -> Any:
        return read_section(path, self.cls, value)
