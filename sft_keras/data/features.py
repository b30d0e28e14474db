"""What a model reads for each example of a split, by position, wherever it is kept."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf

Structure = Any
"""A tensor, or a dict of tensors by the model's input names."""


class Features(abc.ABC):
    """Rows of tensors. A row is what the model reads for one example."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def take(self, positions: tf.Tensor) -> Structure:
        """Returns the rows at `positions`, int64 [m], as tensors [m, ...]; works in a graph."""

    @abc.abstractmethod
    def subset(self, positions: np.ndarray) -> Features:
        """Returns the rows at `positions`, int64 [m], as features of their own, not copied."""


class HeldFeatures(Features):
    """Rows in the host's memory."""

    def __init__(
        self, tensors: Structure, rows: np.ndarray | None = None, like: Structure | None = None
    ) -> None:
        """`rows`, int64 [n], are the tensors' rows to use; `like` has the dtypes to return."""
        self.tensors = tensors
        self._rows = rows
        self._like = tensors if like is None else like

    @classmethod
    def of_arrays(
        cls, arrays: Structure, rows: np.ndarray | None = None, like: Structure | None = None
    ) -> HeldFeatures:
        """Returns NumPy arrays as features."""
        with tf.device("CPU"):
            return cls(tf.nest.map_structure(tf.convert_to_tensor, arrays), rows, like)

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.tensors)[0]) if self._rows is None else len(self._rows)

    def take(self, positions: tf.Tensor) -> Structure:
        """See `Features.take`."""
        rows = positions if self._rows is None else tf.gather(self._rows, positions)
        return tf.nest.map_structure(
            lambda tensor, like: tf.cast(tf.gather(tensor, rows), like.dtype),
            self.tensors,
            self._like,
        )

    def subset(self, positions: np.ndarray) -> HeldFeatures:
        """See `Features.subset`."""
        rows = positions if self._rows is None else self._rows[positions]
        return HeldFeatures(self.tensors, rows, self._like)
