"""Rows on disk as the features of a split, and the conversion between tensors and fields."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.cache.disk import Collection
from sft_keras.cache.rows import Field, from_bytes
from sft_keras.data.features import Features, Structure, match_spec


def field_of(spec: tf.TensorSpec) -> Field:
    """Return the field that stores a tensor; `spec` excludes the batch dimension."""
    # NumPy without ml_dtypes has no bfloat16.
    dtype = "uint16" if spec.dtype == tf.bfloat16 else spec.dtype.name
    return Field(dtype, tuple(spec.shape))


def to_field_arrays(tensors: list[tf.Tensor]) -> list[np.ndarray]:
    """Return tensors as NumPy arrays with the dtypes chosen by `field_of`."""
    arrays = [tensor.numpy() for tensor in tensors]
    return [
        array.view(np.uint16) if tensor.dtype == tf.bfloat16 else array
        for tensor, array in zip(tensors, arrays)
    ]


class StoredFeatures(Features):
    """Rows that are read from disk on every access."""

    def __init__(
        self,
        collection: Collection,
        rows: np.ndarray,
        stored: list[tf.TensorSpec],
        like: Structure,
    ) -> None:
        """Select rows of a collection.

        Args:
          collection: The rows on disk.
          rows: int64 [n], the numbers of the split's rows in the collection.
          stored: Shape (without the batch) and dtype of each stored tensor, in the order of
            `tf.nest.flatten`.
          like: Shape (without the batch) and dtype of each tensor to return, as in
            `InMemoryFeatures`.
        """
        self._collection, self._rows, self._stored, self._like = collection, rows, stored, like

    def __len__(self) -> int:
        return len(self._rows)

    @override
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> Structure:
        dtypes = [field_of(spec).dtype for spec in self._stored]
        arrays = tf.numpy_function(self._read, [positions], dtypes, stateful=False)
        tensors = []
        # Flattened because `tf.numpy_function` returns a single output bare instead of in a list.
        for tensor, spec in zip(tf.nest.flatten(arrays), self._stored, strict=True):
            tensor.set_shape([None, *spec.shape])
            tensors.append(tf.bitcast(tensor, spec.dtype) if tensor.dtype != spec.dtype else tensor)
        return match_spec(tf.nest.pack_sequence_as(self._like, tensors), self._like, length)

    @override
    def subset(self, positions: np.ndarray) -> StoredFeatures:
        return StoredFeatures(self._collection, self._rows[positions], self._stored, self._like)

    def _read(self, positions: np.ndarray) -> list[np.ndarray]:
        rows = self._collection.read(self._rows[positions])
        return from_bytes(rows, self._collection.fields)
