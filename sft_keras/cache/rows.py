"""The layout of a stored row: its fields, its bytes and its name. Requires only NumPy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Field:
    """One tensor of a row.

    Attributes:
      dtype: NumPy dtype name. bfloat16, which NumPy lacks, is stored as uint16.
      shape: Shape without the batch dimension.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes per row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class RowWriter(Protocol):
    """Adds rows to a collection. They become visible at `commit`; after an error, `discard`."""

    def append(self, names: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Add rows.

        Args:
          names: uint8 [m, DIGEST_SIZE].
          arrays: One array [m, ...] per field.

        Raises:
          OSError: If the rows cannot be written.
        """

    def commit(self) -> None:
        """Make the rows visible.

        Raises:
          OSError: If the rows cannot be written.
        """

    def discard(self) -> None:
        """Drop all rows that are not committed."""


def row_size(fields: Sequence[Field]) -> int:
    """Return the size of a row in bytes."""
    return sum(field.size for field in fields)


def to_bytes(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows as uint8 [m, row_size], from one array [m, ...] per field."""
    # The second size is explicit because -1 cannot be inferred when there are no rows.
    shapes = [(len(array), math.prod(array.shape[1:])) for array in arrays]
    flat = [
        np.ascontiguousarray(array).reshape(shape).view(np.uint8)
        for array, shape in zip(arrays, shapes)
    ]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)


def from_bytes(rows: np.ndarray, fields: Sequence[Field]) -> list[np.ndarray]:
    """Return one array [m, ...] per field; the inverse of `to_bytes`."""
    arrays, start = [], 0
    for field in fields:
        columns = np.ascontiguousarray(rows[:, start : start + field.size])
        arrays.append(columns.view(field.dtype).reshape(len(rows), *field.shape))
        start += field.size
    return arrays


class RowIndex:
    """Map from row names to row numbers."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, names: np.ndarray, first: int) -> None:
        """Register names, uint8 [m, DIGEST_SIZE], as the rows `first`, `first` + 1, ..."""
        for number, name in enumerate(names, first):
            self._numbers.setdefault(name.tobytes(), number)

    def find(self, names: np.ndarray) -> np.ndarray:
        """Return row numbers, int64 [m]; -1 where no row has that name."""
        get = self._numbers.get
        return np.array([get(name.tobytes(), -1) for name in names], np.int64)
