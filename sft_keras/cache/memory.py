"""Cached features in the host's memory, kept for as long as the process needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.cache.rows import RowIndex


class MemoryStore:
    """Collections of rows in the host's memory, by collection key."""

    def __init__(self) -> None:
        self._indices: dict[str, RowIndex] = {}
        self._tensors: dict[str, list[tf.Tensor]] = {}

    def find(self, key: str, names: np.ndarray) -> np.ndarray:
        """Return row numbers, int64 [m]; -1 where the collection has no row of that name."""
        return self._indices.get(key, RowIndex()).find(names)

    def tensors(self, key: str) -> list[tf.Tensor]:
        """Return one tensor [rows, ...] per field of a collection."""
        return self._tensors[key]

    def keep_only(self, keys: Iterable[str]) -> None:
        """Drop all collections except these."""
        kept = set(keys)
        self._indices = {key: index for key, index in self._indices.items() if key in kept}
        self._tensors = {key: tensors for key, tensors in self._tensors.items() if key in kept}

    def writer(self, key: str, count: int) -> MemoryWriter:
        """Return a writer that adds at most `count` rows to a collection."""
        return MemoryWriter(self, key, count)

    def add(self, key: str, names: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Add rows to a collection.

        Args:
          key: Collection key.
          names: uint8 [m, DIGEST_SIZE].
          arrays: One array [m, ...] per field.
        """
        with tf.device("CPU"):
            added = [tf.convert_to_tensor(array) for array in arrays]
            existing = self._tensors.get(key)
            if existing is not None:
                added = [tf.concat(pair, axis=0) for pair in zip(existing, added)]
        first = len(added[0]) - len(names)
        self._indices.setdefault(key, RowIndex()).add(names, first)
        self._tensors[key] = added


class MemoryWriter:
    """Buffers rows for a `MemoryStore` until `commit`."""

    def __init__(self, store: MemoryStore, key: str, count: int) -> None:
        self._store, self._key, self._count = store, key, count
        self._names: list[np.ndarray] = []
        self._buffers: list[np.ndarray] = []
        self._filled = 0

    def append(self, names: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Buffer rows: names uint8 [m, DIGEST_SIZE], and one array [m, ...] per field."""
        if not self._buffers:
            # Allocated once at full size, since growing would briefly need twice the memory.
            self._buffers = [np.empty((self._count, *a.shape[1:]), a.dtype) for a in arrays]
        end = self._filled + len(names)
        for buffer, array in zip(self._buffers, arrays):
            buffer[self._filled : end] = array
        self._names.append(names)
        self._filled = end

    def commit(self) -> None:
        """Add the buffered rows to the store."""
        if self._filled:
            arrays = [buffer[: self._filled] for buffer in self._buffers]
            self._store.add(self._key, np.concatenate(self._names), arrays)
        self.discard()

    def discard(self) -> None:
        """Drop the buffered rows."""
        self._names, self._buffers, self._filled = [], [], 0
