"""What the labels of texts may be, and how they are read. Does not import TensorFlow."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from sft_keras.data.stratify import groups_by_rarest_label, groups_by_size

_Names = tuple[str, ...]
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class EncodedLabels:
    """The labels of one split, in numbers.

    Attributes:
      groups: int64 [n], see `Part.labels`.
      occurrences: See `Part.occurrences`.
      columns: What else an element of the stream holds of its label, [n] each.
    """

    groups: np.ndarray
    occurrences: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


class LabelKind(abc.ABC):
    """What the label of a text is."""

    @abc.abstractmethod
    def parse(self, value: Any) -> Hashable:
        """Returns the label that a table or a list says.

        Raises:
          ValueError: With what is wrong, to finish a sentence that begins with "3 texts".
        """

    @abc.abstractmethod
    def encode(
        self, labels_by_split: Mapping[str, Sequence[Any]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        """Returns the names of the classes, and the labels of each split in numbers."""

    @abc.abstractmethod
    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], Any]:
        """Returns a label for synthetic text `number`, and the classes whose words it must hold."""


@dataclasses.dataclass(frozen=True)
class SingleLabelKind(LabelKind):
    """One class a text: str."""

    def parse(self, value: Any) -> str:
        """See `LabelKind.parse`."""
        if _is_several(value):
            raise ValueError("must have one label each")
        name = _name(value)
        if not name:
            raise ValueError("have no label")
        return name

    def encode(
        self, labels_by_split: Mapping[str, Sequence[str]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        """See `LabelKind.encode`."""
        names = _sorted_names(name for each in labels_by_split.values() for name in each)
        number = {name: label for label, name in enumerate(names)}
        return names, {
            split: EncodedLabels(np.array([number[name] for name in labels], np.int64))
            for split, labels in labels_by_split.items()
        }

    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], str]:
        """See `LabelKind.synthesize`."""
        return [number % num_classes], synthetic_name(number % num_classes)


@dataclasses.dataclass(frozen=True)
class MultiLabelKind(LabelKind):
    """None, one or several classes a text: tuple[str, ...], sorted.

    Attributes:
      separator: What stands between the names where they are one string.
    """

    separator: str

    def parse(self, value: Any) -> _Names:
        """See `LabelKind.parse`."""
        if isinstance(value, str):
            value = value.split(self.separator)
        elif not _is_several(value):
            value = [value]
        if isinstance(value, Mapping) or any(map(_is_several, value)):
            raise ValueError("must have a list of names as their label")
        names = [name for name in map(_name, value) if name]
        if len(set(names)) < len(names):
            # As rows of 0 and 1 for the classes would.
            raise ValueError("name a label twice; each is to be named once where it applies")
        return tuple(sorted(names))

    def encode(
        self, labels_by_split: Mapping[str, Sequence[_Names]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        """See `LabelKind.encode`."""
        found = (name for labels in labels_by_split.values() for each in labels for name in each)
        names = _sorted_names(found)
        number = {name: label for label, name in enumerate(names)}
        occurrences = {}
        for split, labels in labels_by_split.items():
            occurrences[split] = np.zeros((len(labels), len(names)), np.int64)
            for row, each in enumerate(labels):
                occurrences[split][row, [number[name] for name in each]] = 1
        groups = groups_by_rarest_label(occurrences)
        return names, {
            split: EncodedLabels(groups[split], occurrences[split]) for split in labels_by_split
        }

    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], list[str]]:
        """See `LabelKind.synthesize`."""
        classes = np.flatnonzero(draw.random(num_classes) < 0.4).tolist()
        return classes, list(map(synthetic_name, classes))


@dataclasses.dataclass(frozen=True)
class NumericLabelKind(LabelKind):
    """A number a text: float. There are no classes; the stream says it as "value", float32."""

    def parse(self, value: Any) -> float:
        """See `LabelKind.parse`."""
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= _LARGEST:
            raise ValueError("must have a finite number as their label")
        return number

    def encode(
        self, labels_by_split: Mapping[str, Sequence[float]]
    ) -> tuple[_Names, dict[str, EncodedLabels]]:
        """See `LabelKind.encode`."""
        numbers = {split: np.array(labels, np.float32) for split, labels in labels_by_split.items()}
        groups = groups_by_size(numbers)
        return (), {
            split: EncodedLabels(groups[split], np.zeros((len(each), 0), np.int64), {"value": each})
            for split, each in numbers.items()
        }

    def synthesize(
        self, number: int, num_classes: int, draw: np.random.Generator
    ) -> tuple[list[int], float]:
        """See `LabelKind.synthesize`."""
        classes = np.flatnonzero(draw.random(num_classes) < 0.5).tolist()
        return classes, float(sum(1 + each for each in classes))


def synthetic_name(label: int) -> str:
    """Returns what a class of synthetic texts is called: a letter."""
    return chr(ord("a") + label)


def _is_several(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | dict | np.ndarray)


def _name(value: Any) -> str:
    """Returns a class' name; "" for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as tables have whole numbers beside missing ones
    name = str(value).strip()
    return "" if name.lower() == "nan" else name  # what many programs write for a missing value


def _sorted_names(names: Iterable[str]) -> _Names:
    """Returns class names in order: numbers by value, else by alphabet."""
    different = set(names)
    if all(name.removeprefix("-").isdecimal() for name in different):
        # By name too, as "1" and "01" are one number; and `int` refuses one of 5000 digits.
        return tuple(sorted(different, key=lambda name: (Decimal(name), name)))
    return tuple(sorted(different))
