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
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> Structure:
        """Returns the rows at `positions`, int64 [m], as tensors [m, ...]; works in a graph.

        With a `length`, tensors with a place for each token are cut to so many places.
        """

    @abc.abstractmethod
    def subset(self, positions: np.ndarray) -> Features:
        """Returns the rows at `positions`, int64 [m], as features of their own, not copied."""


class InMemoryFeatures(Features):
    """Rows in the host's memory."""

    def __init__(
        self, tensors: Structure, rows: np.ndarray | None = None, like: Structure | None = None
    ) -> None:
        """Takes part of some tensors.

        Args:
          tensors: [any number of rows, ...] each.
          rows: int64 [n], those to use; None for all.
          like: Shape (without the batch) and dtype of what to return, as a TensorSpec each; the
            first axis is None where it is one of tokens. None for the tensors' own.
        """
        self.tensors = tensors
        self._rows = rows
        self._like = like
        if like is None:
            self._like = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec(tensor.shape[1:], tensor.dtype), tensors
            )

    @classmethod
    def from_arrays(
        cls, arrays: Structure, rows: np.ndarray | None = None, like: Structure | None = None
    ) -> InMemoryFeatures:
        """Returns NumPy arrays as features."""
        with tf.device("CPU"):
            return cls(tf.nest.map_structure(tf.convert_to_tensor, arrays), rows, like)

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.tensors)[0]) if self._rows is None else len(self._rows)

    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> Structure:
        """See `Features.take`."""
        rows = positions if self._rows is None else tf.gather(self._rows, positions)
        taken = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), self.tensors)
        return match_spec(taken, self._like, length)

    def subset(self, positions: np.ndarray) -> InMemoryFeatures:
        """See `Features.subset`."""
        rows = positions if self._rows is None else self._rows[positions]
        return InMemoryFeatures(self.tensors, rows, self._like)


def match_spec(taken: Structure, like: Structure, length: tf.Tensor | None) -> Structure:
    """Returns rows with the dtypes of `like`, tensors with an axis of tokens cut to `length`."""

    def finished(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
        if length is not None and has_token_axis(spec):
            tensor = tensor[:, :length]
        return tf.cast(tensor, spec.dtype)

    return tf.nest.map_structure(finished, taken, like)


def has_token_axis(spec: tf.TensorSpec) -> bool:
    """Whether the first axis of rows like `spec` is one of tokens."""
    return spec.shape.rank > 0 and spec.shape[0] is None
