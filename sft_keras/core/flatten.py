"""Flatten nested values to dotted paths. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Expand = Callable[[str, list[Any]], Iterable[tuple[str, Any]] | None]
"""Called with (path, list); returns (name, item) pairs to descend into, or None for a leaf."""


def named_items(path: str, items: list[Any]) -> Iterable[tuple[str, Any]] | None:
    """Expand a list of mappings or lists, and keep a list of plain values.

    An item is named by its "name" where it has one, as the stages of a recipe have, otherwise by
    its index.
    """
    if not any(isinstance(item, (dict, list)) for item in items):
        return None
    return [
        (str(item.get("name", index) if isinstance(item, Mapping) else index), item)
        for index, item in enumerate(items)
    ]


def indexed_items(path: str, items: list[Any]) -> Iterable[tuple[str, Any]] | None:
    """Expand every list that is not empty, naming items by their index."""
    return [(str(index), item) for index, item in enumerate(items)] or None


def flatten(value: Any, expand: Expand = named_items, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of JSON-like values with their paths.

    A leaf is a plain value, an empty mapping or a list that `expand` does not expand.

    Args:
      value: Nested mappings and lists.
      expand: Selects the items of a list: `named_items`, `indexed_items` or a function of the
        same signature.
      path: Path of `value` itself, which all paths begin with.

    Yields:
      ("stages.head.epochs", 8), ...

    Example:
      >>> recipe = {"seed": 0, "stages": [{"name": "head", "epochs": 8}]}
      >>> dict(flatten(recipe))
      {'seed': 0, 'stages.head.name': 'head', 'stages.head.epochs': 8}
      >>> list(flatten([1, [2]], indexed_items))
      [('0', 1), ('1.0', 2)]
    """
    items: Iterable[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping):
        items = value.items() if value else None
    elif isinstance(value, list):
        items = expand(path, value)
    if items is None:
        yield path, value
        return
    for name, item in items:
        yield from flatten(item, expand, f"{path}.{name}" if path else str(name))


def flatten_as_text(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the leaves of `flatten` as text: strings as they are, other values as JSON.

    Example:
      >>> list(flatten_as_text({"cache": "auto", "stages": [{"name": "head", "epochs": 8}]}))
      [('cache', 'auto'), ('stages.head.name', 'head'), ('stages.head.epochs', '8')]
    """
    for path, leaf in flatten(value):
        yield path, leaf if isinstance(leaf, str) else json.dumps(leaf, ensure_ascii=False)
