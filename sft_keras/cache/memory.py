"""Stored rows in memory, for as long as the process wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.cache.rows import RowIndex


class MemoryStore:
    """Collections of rows in the host's memory, by their keys."""

    def __init__(self) -> None:
        self._indices: dict[str, RowIndex] = {}
        self._tensors: dict[str, list[tf.Tensor]] = {}

    def find(self, key: str, names: np.ndarray) -> np.ndarray:
        """Returns the numbers of rows, int64 [m]; -1 where there is none of that name."""
        return self._indices.get(key, RowIndex()).find(names)

    def tensors(self, key: str) -> list[tf.Tensor]:
        """Returns a tensor [rows, ...] for each field of a collection."""
        return self._tensors[key]

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forgets all collections but these."""
        kept = set(keys)
        self._indices = {key: index for key, index in self._indices.items() if key in kept}
        self._tensors = {key: held for key, held in self._tensors.items() if key in kept}

    def writer(self, key: str, count: int) -> MemoryWriter:
        """Begins to add at most `count` rows to a collection."""
        return MemoryWriter(self, key, count)

    def add(self, key: str, names: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Adds rows: names uint8 [m, DIGEST_SIZE], and an array [m, ...] for each field."""
        with tf.device("CPU"):
            added = [tf.convert_to_tensor(array) for array in arrays]
            held = self._tensors.get(key)
            if held is not None:
                added = [tf.concat(pair, axis=0) for pair in zip(held, added)]
        first = len(added[0]) - len(names)
        self._indices.setdefault(key, RowIndex()).add(names, first)
        self._tensors[key] = added


class MemoryWriter:
    """Collects rows; they are to be found from `commit` on."""

    def __init__(self, store: MemoryStore, key: str, count: int) -> None:
        self._store, self._key, self._count = store, key, count
        self._names: list[np.ndarray] = []
        self._arrays: list[np.ndarray] = []
        self._filled = 0

    def append(self, names: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Adds rows: names uint8 [m, DIGEST_SIZE], and an array [m, ...] for each field."""
        if not self._arrays:
            # Once for all, since growing would need the room twice.
            self._arrays = [np.empty((self._count, *a.shape[1:]), a.dtype) for a in arrays]
        end = self._filled + len(names)
        for held, array in zip(self._arrays, arrays):
            held[self._filled : end] = array
        self._names.append(names)
        self._filled = end

    def commit(self) -> None:
        """Makes the rows appear."""
        if self._filled:
            arrays = [array[: self._filled] for array in self._arrays]
            self._store.add(self._key, np.concatenate(self._names), arrays)
        self.discard()

    def discard(self) -> None:
        """Forgets the rows."""
        self._names, self._arrays, self._filled = [], [], 0


Writer = Any
"""A `MemoryWriter` or a `ShardWriter`: append, then commit or discard."""
