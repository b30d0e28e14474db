"""Rows on disk as features of a split, and what a row's tensors are on disk."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sft_keras.cache.disk import Collection
from sft_keras.cache.rows import Field, from_bytes
from sft_keras.data.features import Features, Structure, match_spec


def field_of(spec: tf.TensorSpec) -> Field:
    """Returns how a row's tensor is kept on disk; `spec` is without the batch."""
    # NumPy alone does not know bfloat16.
    name = "uint16" if spec.dtype == tf.bfloat16 else spec.dtype.name
    return Field(name, tuple(spec.shape))


def as_fields(tensors: list[tf.Tensor]) -> list[np.ndarray]:
    """Returns tensors as NumPy arrays of the dtypes that `field_of` gives."""
    arrays = [tensor.numpy() for tensor in tensors]
    return [
        array.view(np.uint16) if tensor.dtype == tf.bfloat16 else array
        for tensor, array in zip(tensors, arrays)
    ]


class StoredFeatures(Features):
    """Rows that are read from disk each time, as they are asked for."""

    def __init__(
        self,
        collection: Collection,
        rows: np.ndarray,
        stored: list[tf.TensorSpec],
        like: Structure,
    ) -> None:
        """Takes part of a collection.

        Args:
          collection: The rows on disk.
          rows: int64 [n], the numbers of those that belong to the split.
          stored: Shape (without the batch) and dtype of each tensor of a row as it is stored.
          like: Shape (without the batch) and dtype of what to return, see `InMemoryFeatures`.
        """
        self._collection, self._rows, self._stored, self._like = collection, rows, stored, like

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> Structure:
        """See `Features.take`."""
        kept = [field_of(spec).dtype for spec in self._stored]
        read = tf.numpy_function(self._read, [positions], kept, stateful=False)
        tensors = []
        # Flattened, because of one tensor it returns that and no list.
        for tensor, spec in zip(tf.nest.flatten(read), self._stored, strict=True):
            tensor.set_shape([None, *spec.shape])
            tensors.append(tf.bitcast(tensor, spec.dtype) if tensor.dtype != spec.dtype else tensor)
        return match_spec(tf.nest.pack_sequence_as(self._like, tensors), self._like, length)

    def subset(self, positions: np.ndarray) -> StoredFeatures:
        """See `Features.subset`."""
        return StoredFeatures(self._collection, self._rows[positions], self._stored, self._like)

    def _read(self, positions: np.ndarray) -> list[np.ndarray]:
        rows = self._collection.read(self._rows[positions])
        return from_bytes(rows, self._collection.fields)
