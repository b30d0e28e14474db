"""How the sections of a recipe are declared and checked. Standard library only."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable
from typing import Any, TypeVar, dataclass_transform

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe.field_types import field_types

_Section = TypeVar("_Section")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest known word, or "" if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(cls: type[_Section]) -> type[_Section]:
    """Declare a section: a frozen, keyword-only dataclass.

    Its constructor raises a `RecipeError` with a "did you mean" for each misspelt field.
    """
    made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = [field.name for field in dataclasses.fields(made)]
    construct = made.__init__

    @functools.wraps(construct)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        faults = [
            f"{cls.__name__} has no field {name!r}.{did_you_mean(name, fields)}"
            for name in values
            if name not in fields
        ]
        if faults:
            headline = "The recipe names fields that do not exist."
            raise RecipeError(
                f"{numbered(headline, faults)}\nFields of {cls.__name__}: {', '.join(fields)}."
            )
        construct(self, *args, **values)

    made.__init__ = checked
    return cls


def type_faults(path: str, holder: Any) -> list[str]:
    """Return one sentence for each field whose value is not of its annotated type."""
    checks = Checks(path, holder)
    cls: type = type(holder)
    for name, kind in field_types(cls).items():
        checks.require(name, kind.matches(getattr(holder, name)), kind.description)
    return checks.faults


def section_faults(path: str, holder: Any) -> list[str]:
    """Return the faults of a section: wrong types or, if there are none, wrong values."""
    return type_faults(path, holder) or holder.faults()


class Checks:
    """Collects the faults of one section.

    Attributes:
      faults: One sentence per fault, naming the field by its path.

    Example:
      >>> from sft_keras import Store
      >>> checks = Checks("store", Store(batch_size=0))
      >>> checks.at_least("batch_size", 1)
      >>> checks.faults
      ['`store.batch_size` must be 1 or more. Received: 0.']
    """

    def __init__(self, path: str, holder: Any) -> None:
        """Start without faults.

        Args:
          path: Path of the section, e.g. "stages.head"; "" for the recipe itself.
          holder: The section.
        """
        self.faults: list[str] = []
        self._prefix = f"{path}." if path else ""
        self._holder = holder

    def require(self, name: str, holds: bool, expected: str) -> None:
        """Record a fault unless `holds`; `expected` finishes the sentence "must be ..."."""
        if not holds:
            received = getattr(self._holder, name)
            self.faults.append(
                f"`{self._prefix}{name}` must be {expected}. Received: {received!r}."
            )

    def at_least(self, name: str, least: float) -> None:
        """Record a fault unless the field is `least` or more."""
        self.require(name, getattr(self._holder, name) >= least, f"{least} or more")

    def between(self, name: str, low: float, high: float) -> None:
        """Record a fault unless the field lies in [low, high]."""
        self.require(name, low <= getattr(self._holder, name) <= high, f"from {low} to {high}")

    def one_of(self, name: str, known: tuple[str, ...]) -> None:
        """Record a fault, with a "did you mean", unless the field is one of `known`."""
        received = getattr(self._holder, name)
        if received not in known:
            hint = did_you_mean(str(received), known)
            self.faults.append(
                f"`{self._prefix}{name}` must be one of {', '.join(map(repr, known))}. "
                f"Received: {received!r}.{hint}"
            )
