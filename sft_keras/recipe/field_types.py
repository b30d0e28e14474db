"""What a recipe's field may hold: checking a value and parsing an override's text.

Works from the annotations of the dataclasses, so a field is described in one place. Standard
library only.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import json
import sys
import types
import typing
from typing import Any, Literal, Union

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Return {field name: annotation} of a dataclass, with annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def matches(value: Any, annotation: Any) -> bool:
    """Whether a Python value fits an annotation.

    A whole number also fits a float; NaN, infinity and what takes more than 64 bits fit nothing.
    """
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object):
        return True
    if annotation is None or annotation is types.NoneType:
        return value is None
    if origin in (Union, types.UnionType):
        return any(matches(value, member) for member in members)
    if origin is Literal:
        return value in members
    if origin is tuple:
        kinds = [members[0]] * len(value) if _open_ended(members) else members
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(matches(item, kind) for item, kind in zip(value, kinds))
        )
    if origin is collections.abc.Mapping:
        return isinstance(value, collections.abc.Mapping) and all(
            matches(key, members[0]) and matches(item, members[1]) for key, item in value.items()
        )
    if isinstance(value, bool):  # a bool is an int to Python, and never meant as one here
        return annotation is bool
    if annotation is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if annotation is int:
        return isinstance(value, int) and abs(value) < 2**63
    return isinstance(value, annotation)


def parse(text: str, annotation: Any) -> Any:
    """Returns the value that an override's text stands for.

    Raises:
      ValueError: If the text cannot be read as the annotation asks.
    """
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is types.NoneType:
        if text.lower() in ("none", "null"):
            return None
        raise ValueError(text)
    if origin in (Union, types.UnionType):
        # None first and plain text last: "none" is no name, and "2" no name where numbers fit.
        ranked = sorted(members, key=lambda m: (m is not types.NoneType, m is str))
        return _first_parse(text, ranked)
    if origin is Literal:
        return _first_parse(text, [member for member in members if str(member) == text], exact=True)
    if origin is tuple:
        text = text.strip("() ")
        if str not in members:
            text = text.replace("x", ",")  # 96x128
        items = [item for item in text.split(",") if item.strip()]
        kinds = [members[0]] * len(items) if _open_ended(members) else members
        if len(items) != len(kinds):
            raise ValueError(text)
        return tuple(parse(item.strip(), kind) for item, kind in zip(items, kinds))
    if origin is collections.abc.Mapping:
        loaded = json.loads(text)
        if not matches(loaded, annotation):
            raise ValueError(text)
        return loaded
    if annotation is bool:
        if text.lower() not in _TRUTH:
            raise ValueError(text)
        return _TRUTH[text.lower()]
    if annotation in (int, float, str):
        return annotation(text)
    if annotation in (Any, object):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    raise ValueError(text)


def describe(annotation: Any) -> str:
    """Returns what an annotation asks for, in words that finish "must be ..."."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if annotation is types.NoneType:
        return "none"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(member) for member in members if member is not object)
    if origin is Literal:
        return " or ".join(map(repr, members))
    if origin is tuple:
        if _open_ended(members):
            return f"a row of values, each {describe(members[0])}"
        return "(" + ", ".join(describe(member) for member in members) + ")"
    if origin is collections.abc.Mapping:
        return 'a mapping, as {"key": value}'
    return f"a {annotation.__name__}" if isinstance(annotation, type) else str(annotation)


def _open_ended(members: tuple[Any, ...]) -> bool:
    return len(members) == 2 and members[1] is Ellipsis


def _first_parse(text: str, candidates: list[Any], exact: bool = False) -> Any:
    if exact:
        if not candidates:
            raise ValueError(text)
        return candidates[0]
    for candidate in candidates:
        try:
            return parse(text, candidate)
        except ValueError:
            continue
    raise ValueError(text)
