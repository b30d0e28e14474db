"""The kinds of labels that texts may have, and how they are parsed. No TensorFlow."""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from typing_extensions import override

from sft_keras.data.stratify import groups_by_rarest_label, groups_by_size
from sft_keras.text.label_notes import separator_notes, spelling_notes

_Names = tuple[str, ...]
UNKNOWN = object()
"""A label that was withheld; for several labels per text, None means none of them."""

_BRACKETS = ("[]", "()", "{}")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MAX_NUMBER = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class EncodedLabels:
    """The labels of one split as numbers.

    Attributes:
      groups: int64 [n], the labels of a `Part`.
      occurrences: As in `Part`.
      columns: Further values of the label in elements of the stream, [n] each.
    """

    groups: np.ndarray
    occurrences: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


class MissingLabelError(ValueError):
    """There is no label."""


class LabelKind(abc.ABC):
    """A kind of label: how it is parsed, encoded and synthesized."""

    @abc.abstractmethod
    def parse(self, value: Any) -> Hashable:
        """Return the label for a value from a table or list.

        Raises:
          MissingLabelError: If there is none.
          ValueError: With the end of a sentence that starts with "3 texts".
        """

    def fitted(self, values: Iterable[Any]) -> LabelKind:
        """Return the kind that parses these values, if they show how labels are written."""
        return self

    def notes(self, labels: Iterable[Any]) -> list[str]:
        """Return sentences on parsed labels that look like mistakes."""
        return []

    @abc.abstractmethod
    def encode(
        self, labels_by_split: Mapping[str, Sequence[Any]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        """Return the class names, and the labels of each split as numbers."""

    @abc.abstractmethod
    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], Any]:
        """Return the classes whose words synthetic text `number` must contain, and its label."""


@dataclasses.dataclass(frozen=True)
class SingleLabelKind(LabelKind):
    """One class per text: str."""

    @override
    def parse(self, value: Any) -> str:
        if isinstance(value, list) and len(value) == 1:
            (value,) = value  # of columns of 0 and 1
        if isinstance(value, list) and not value:
            raise MissingLabelError("have no label")
        if _is_collection(value):
            raise ValueError("must have one label each")
        name = _name(value)
        if not name:
            raise MissingLabelError("have no label")
        return name

    @override
    def notes(self, labels: Iterable[str]) -> list[str]:
        return spelling_notes(Counter(labels))

    @override
    def encode(
        self, labels_by_split: Mapping[str, Sequence[str]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        names = _sorted_names(name for labels in labels_by_split.values() for name in labels)
        number = {name: label for label, name in enumerate(names)}
        return names, {
            split: EncodedLabels(np.array([number[name] for name in labels], np.int64))
            for split, labels in labels_by_split.items()
        }

    @override
    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], str]:
        return [number % num_classes], synthetic_name(number % num_classes)


@dataclasses.dataclass(frozen=True)
class MultiLabelKind(LabelKind):
    """Any number of classes per text: tuple[str, ...], sorted.

    Attributes:
      separator: Separates the names if they are one string; a blank stands for any white space.
      lists: Whether strings are lists as Python, NumPy or JSON write them: "['a', 'b']".
    """

    separator: str
    lists: bool = False

    @override
    def fitted(self, values: Iterable[Any]) -> LabelKind:
        texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
        lists = bool(texts) and all(text[:1] + text[-1:] in _BRACKETS for text in texts)
        return dataclasses.replace(self, lists=lists)

    @override
    def notes(self, labels: Iterable[_Names]) -> list[str]:
        labels = list(labels)
        counts = Counter(name for names in labels for name in names)
        read = ["Labels were read as lists, as in \"['a', 'b']\"."] if self.lists else []
        return [*read, *spelling_notes(counts), *separator_notes(labels, self.separator)]

    @override
    def parse(self, value: Any) -> _Names:
        if value is UNKNOWN:
            raise MissingLabelError("have no label")
        if isinstance(value, str) and self.lists:
            value = _parse_list(value.strip())
        elif isinstance(value, str):
            value = value.split(None if self.separator == " " else self.separator)
        elif not _is_collection(value):
            value = [value]
        if isinstance(value, Mapping) or any(map(_is_collection, value)):
            raise ValueError("must have a list of names as their label")
        names = [name for name in map(_name, value) if name]
        if len(set(names)) < len(names):
            # As rows of 0 and 1 per class would.
            raise ValueError("have the same label twice; list each label that applies once")
        return tuple(sorted(names))

    @override
    def encode(
        self, labels_by_split: Mapping[str, Sequence[_Names]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        names = _sorted_names(
            name for labels in labels_by_split.values() for row in labels for name in row
        )
        number = {name: label for label, name in enumerate(names)}
        occurrences = {}
        for split, labels in labels_by_split.items():
            occurrences[split] = np.zeros((len(labels), len(names)), np.int64)
            for row, row_names in enumerate(labels):
                occurrences[split][row, [number[name] for name in row_names]] = 1
        groups = groups_by_rarest_label(occurrences)
        return names, {
            split: EncodedLabels(groups[split], occurrences[split]) for split in labels_by_split
        }

    @override
    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], list[str]]:
        classes = np.flatnonzero(draw.random(num_classes) < 0.4).tolist()
        return classes, list(map(synthetic_name, classes))


@dataclasses.dataclass(frozen=True)
class NumericLabelKind(LabelKind):
    """A number per text: float. There are no classes; the stream has it as "value", float32."""

    @override
    def parse(self, value: Any) -> float:
        if is_missing(value) or (isinstance(value, str) and value.strip().lower() == "nan"):
            raise MissingLabelError("have no label")
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= _MAX_NUMBER:
            raise ValueError("must have a finite number as their label")
        return number

    @override
    def encode(
        self, labels_by_split: Mapping[str, Sequence[float]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        numbers = {split: np.array(labels, np.float32) for split, labels in labels_by_split.items()}
        groups = groups_by_size(numbers)
        return (), {
            split: EncodedLabels(
                groups[split], np.zeros((len(values), 0), np.int64), {"value": values}
            )
            for split, values in numbers.items()
        }

    @override
    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], float]:
        classes = np.flatnonzero(draw.random(num_classes) < 0.5).tolist()
        return classes, float(sum(1 + label for label in classes))


def synthetic_name(label: int) -> str:
    """Return the name of a class of synthetic texts: a letter."""
    return chr(ord("a") + label)


def _is_collection(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | dict | np.ndarray)


def is_missing(value: Any) -> bool:
    """Return whether a value from a table or list is missing: None, NaN, pandas' NA or blank."""
    if (
        value is None
        or value is UNKNOWN
        or (isinstance(value, float | np.floating) and math.isnan(value))
    ):
        return True
    if isinstance(value, str):
        return not value.strip()
    return type(value).__name__ in ("NAType", "NaTType")  # without importing pandas


def _parse_list(text: str) -> list[str]:
    """Return the items of a list in brackets; items without quotes may be separated by commas.

    Raises:
      ValueError: If it is a dictionary, or lists are nested.
    """
    if not text:
        return []
    content = text[1:-1]
    unquoted = _QUOTED.sub("", content)
    if any(bracket in unquoted for bracket in "[](){}") or (text[0] == "{" and ":" in unquoted):
        raise ValueError("must have a list of names as their label")
    if unquoted != content:
        # NumPy separates strings with blanks, which `ast.literal_eval` would join into one.
        quoted = [match[1] or match[2] for match in _QUOTED.finditer(content)]
        return [*(_ESCAPED.sub(r"\1", item) for item in quoted), *_bare_items(unquoted)]
    items = _bare_items(content)
    if len(items) == 1 and all(_is_number(part) for part in content.split()):
        return content.split()
    return items


def _bare_items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()


def _name(value: Any) -> str:
    """Return the name of a class; "" for a missing value."""
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables store integers as floats if some are missing
    name = str(value).strip()
    return "" if name.lower() == "nan" else name  # how many programs write a missing value


def _sorted_names(names: Iterable[str]) -> _Names:
    """Return class names sorted by value if all are numbers, else alphabetically."""
    unique = set(names)
    if all(name.removeprefix("-").isdecimal() for name in unique):
        # Also by name: "1" and "01" are equal numbers. `int` refuses numbers of 5000 digits.
        return tuple(sorted(unique, key=lambda name: (Decimal(name), name)))
    return tuple(sorted(unique))
