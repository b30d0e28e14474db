"""Texts and labels in memory. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sft_keras.core.errors import DataError, numbered
from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.text.cleaning import TextRow
from sft_keras.text.labels import is_missing

_SHOWN = 60  # characters of a value in a message

_Pair = tuple[Sequence[str | tuple[str, str]], Sequence[str | float | Sequence[str | int]]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Texts(InMemorySource):
    """Texts and labels in memory, as a data source.

    Each split is (texts, labels) of equal length: lists, NumPy arrays or columns of a data frame.
    Texts are strings or pairs of strings. Labels are strings, whole numbers or booleans; lists of
    these for multi-label classification; or any numbers for regression. Texts without a label
    (None or NaN) are dropped and counted.

    Attributes:
      train: The training split.
      validation: The validation split; None to create it from `train`.
      test: The test split; None to create it from `train`.

    Example:

    >>> from sft_keras import Data, Texts
    >>> source = Texts(train=(["Great film.", "A waste of time."] * 20, ["good", "bad"] * 20))
    >>> source
    Texts(train=40)
    >>> data = Data(source=source, validation=0.2, test=0.2)
    """

    train: _Pair
    validation: _Pair | None = None
    test: _Pair | None = None

    def __repr__(self) -> str:
        sizes = (
            f"{name}={'?' if _structure_fault(name, split) else len(split[1])}"
            for name, split in self.given().items()
        )
        return f"Texts({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Return what is wrong with the lists, one sentence each."""
        faults = []
        for name, split in self.given().items():
            fault = _structure_fault(name, split)
            if fault:
                faults.append(fault)
                continue
            texts = list(split[0])
            invalid = next((text for text in texts if not _is_text(text)), None)
            if invalid is not None:
                faults.append(
                    f"The texts of `{name}` must be strings or pairs of strings. "
                    f"Received: {repr(invalid)[:_SHOWN]}, a {type(invalid).__name__}."
                )
        if faults:
            return faults
        splits = self.given().values()
        sizes = {len(_texts(text)) for texts, _ in splits for text in texts if not is_missing(text)}
        if len(sizes) > 1:
            faults.append("The texts must be either all strings or all pairs. Received: both.")
        return faults


def text_rows(source: Texts) -> dict[str, list[TextRow]]:
    """Return the rows of a source by split.

    Raises:
      DataError: Listing what is wrong with the lists.
    """
    faults = source.faults()
    if faults:
        raise DataError(numbered(f"The texts cannot be trained on: {source!r}.", faults))
    given = source.given()
    sizes = [len(_texts(text)) for texts, _ in given.values() for text in texts]
    missing = ("",) * max(sizes, default=1)
    return {
        split: [
            TextRow(
                f"{split}[{number}]", missing if is_missing(text) else _texts(text), _plain(label)
            )
            for number, (text, label) in enumerate(zip(*pair))
        ]
        for split, pair in given.items()
    }


def _structure_fault(name: str, split: Any) -> str:
    """Return why a split is not (texts, labels) of equal length, or ""."""
    expected = f"`{name}` must be (texts, labels), two lists of equal length."
    if not isinstance(split, tuple | list) or len(split) != 2:
        kind = type(split).__name__
        size = f" of {len(split)}" if isinstance(split, tuple | list) else ""
        hint = (
            " From a data frame, pass (frame['text'], frame['label'])."
            if kind == "DataFrame"
            else ""
        )
        return f"{expected} Received: a {kind}{size}.{hint}"
    for part, noun in zip(split, ("texts", "labels")):
        is_list = hasattr(part, "__len__") and hasattr(part, "__iter__")
        if not is_list or isinstance(part, Mapping | bytes) or getattr(part, "ndim", 1) == 0:
            return f"{expected} Received as {noun}: a {type(part).__name__}."
    if isinstance(split[0], str):
        return f"{expected} Received as texts: a str."
    if len(split[0]) != len(split[1]):
        return (
            f"`{name}` must have as many labels as texts. "
            f"Received: {len(split[0])} texts and {len(split[1])} labels."
        )
    return ""


def _is_text(value: Any) -> bool:
    if isinstance(value, str) or is_missing(value):
        return True
    return _is_pair(value) and all(isinstance(part, str) for part in value)


def _is_pair(value: Any) -> bool:
    is_row = isinstance(value, tuple | list) or getattr(value, "ndim", 0) == 1
    return is_row and len(value) == 2


def _texts(value: Any) -> tuple[str, ...]:
    """Return one or two texts; none for a missing value."""
    if isinstance(value, str):
        return (value,)
    return () if is_missing(value) else tuple(map(str, value))


def _plain(label: Any) -> Any:
    """Return a label of NumPy or pandas as Python has it."""
    if isinstance(label, np.ndarray):
        return label.tolist() if label.ndim else label.item()
    return label.item() if isinstance(label, np.generic) else label
