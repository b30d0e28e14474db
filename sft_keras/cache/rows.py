"""What a stored row is made of. NumPy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Field:
    """One tensor of a row.

    Attributes:
      dtype: NumPy's name of it; bfloat16, which NumPy does not know, is kept as uint16.
      shape: Without the batch.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes a row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def row_size(fields: Sequence[Field]) -> int:
    """Returns how many bytes a row takes."""
    return sum(field.size for field in fields)


def to_bytes(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Returns rows as uint8 [m, row_size], from an array [m, ...] for each field."""
    # Not -1 for the second size, which cannot be told where there are no rows.
    sizes = [(len(array), math.prod(array.shape[1:])) for array in arrays]
    flat = [
        np.ascontiguousarray(array).reshape(size).view(np.uint8)
        for array, size in zip(arrays, sizes)
    ]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)


def from_bytes(rows: np.ndarray, fields: Sequence[Field]) -> list[np.ndarray]:
    """Returns an array [m, ...] for each field; the inverse of `to_bytes`."""
    found, start = [], 0
    for field in fields:
        part = np.ascontiguousarray(rows[:, start : start + field.size])
        found.append(part.view(field.dtype).reshape(len(rows), *field.shape))
        start += field.size
    return found


class RowIndex:
    """Finds the numbers of rows by their names."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, names: np.ndarray, first: int) -> None:
        """Notes names, uint8 [m, DIGEST_SIZE], as rows `first`, `first` + 1, ..."""
        for number, name in enumerate(names, first):
            self._numbers.setdefault(name.tobytes(), number)

    def find(self, names: np.ndarray) -> np.ndarray:
        """Returns the numbers of rows, int64 [m]; -1 where there is none of that name."""
        get = self._numbers.get
        return np.array([get(name.tobytes(), -1) for name in names], np.int64)
