"""How a recipe's sections are made and checked. Standard library only."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable
from typing import Any, dataclass_transform

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe import field_types
from sft_keras.recipe.field_types import describe


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the nearest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(cls: type) -> type:
    """A frozen, keyword-only dataclass; its constructor says "did you mean" of a misspelt field."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = [field.name for field in dataclasses.fields(cls)]
    make = cls.__init__

    @functools.wraps(make)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        faults = [
            f"{cls.__name__} has no field {name!r}.{did_you_mean(name, fields)}"
            for name in values
            if name not in fields
        ]
        if faults:
            known = f"Fields of {cls.__name__}: {', '.join(fields)}."
            headline = "The recipe names fields that do not exist."
            raise RecipeError(f"{numbered(headline, faults)}\n{known}")
        make(self, *args, **values)

    cls.__init__ = checked
    return cls


def type_faults(path: str, holder: Any) -> list[str]:
    """Returns a sentence for each field whose value does not fit its annotation."""
    checks = Checks(path, holder)
    for name, annotation in field_types.field_types(type(holder)).items():
        value = getattr(holder, name)
        checks.require(name, field_types.matches(value, annotation), describe(annotation))
    return checks.found


def section_faults(path: str, holder: Any) -> list[str]:
    """Returns the faults of a section: of its types, or where those fit, of its values."""
    return type_faults(path, holder) or holder.faults()


class Checks:
    """Collects the faults of one section's fields, named by their path."""

    def __init__(self, path: str, holder: Any) -> None:
        self.found: list[str] = []
        self._prefix = f"{path}." if path else ""
        self._holder = holder

    def require(self, name: str, holds: bool, expected: str) -> None:
        """Notes a fault unless `holds`; `expected` finishes the sentence "must be ..."."""
        if not holds:
            received = getattr(self._holder, name)
            self.found.append(f"`{self._prefix}{name}` must be {expected}. Received: {received!r}.")

    def at_least(self, name: str, least: float) -> None:
        """Notes a fault unless the field is `least` or more."""
        self.require(name, getattr(self._holder, name) >= least, f"{least} or more")

    def between(self, name: str, low: float, high: float) -> None:
        """Notes a fault unless the field lies in [low, high]."""
        self.require(name, low <= getattr(self._holder, name) <= high, f"from {low} to {high}")

    def one_of(self, name: str, known: tuple[str, ...]) -> None:
        """Notes a fault, with "did you mean", unless the field is one of `known`."""
        received = getattr(self._holder, name)
        if received not in known:
            hint = did_you_mean(str(received), known)
            self.found.append(
                f"`{self._prefix}{name}` must be one of {', '.join(map(repr, known))}. "
                f"Received: {received!r}.{hint}"
            )
