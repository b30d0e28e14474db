"""Model inputs of a split by position, wherever they are stored."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import override

Structure = Any
"""A tensor, or a dict of tensors by the model's input names."""


class Features(abc.ABC):
    """Rows of tensors. A row is the model's input for one example."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> Structure:
        """Return the rows at `positions`; runs in a graph.

        Args:
          positions: int64 [m].
          length: Truncate tensors with a token axis to this many tokens; None to keep them whole.

        Returns:
          Tensors [m, ...].
        """

    @abc.abstractmethod
    def subset(self, positions: np.ndarray) -> Features:
        """Return the rows at `positions`, int64 [m], without copying them."""


class InMemoryFeatures(Features):
    """Rows in the host's memory."""

    def __init__(
        self, tensors: Structure, rows: np.ndarray | None = None, spec: Structure | None = None
    ) -> None:
        """Select rows of tensors.

        Args:
          tensors: [any number of rows, ...] each.
          rows: int64 [n], the rows to use; None for all.
          spec: A TensorSpec per tensor with the shape (without the batch axis) and dtype to return;
            the first axis is None if it is a token axis. None for those of the tensors.
        """
        self.tensors = tensors
        self._rows = rows
        self._spec = spec
        if spec is None:
            self._spec = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec(tensor.shape[1:], tensor.dtype), tensors
            )

    @classmethod
    def from_arrays(
        cls, arrays: Structure, rows: np.ndarray | None = None, spec: Structure | None = None
    ) -> InMemoryFeatures:
        """Return NumPy arrays as features in the host's memory."""
        with tf.device("CPU"):
            return cls(tf.nest.map_structure(tf.convert_to_tensor, arrays), rows, spec)

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.tensors)[0]) if self._rows is None else len(self._rows)

    @override
    def take(self, positions: tf.Tensor, length: tf.Tensor | None = None) -> Structure:
        rows = positions if self._rows is None else tf.gather(self._rows, positions)
        taken = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), self.tensors)
        return match_spec(taken, self._spec, length)

    @override
    def subset(self, positions: np.ndarray) -> InMemoryFeatures:
        rows = positions if self._rows is None else self._rows[positions]
        return InMemoryFeatures(self.tensors, rows, self._spec)


def match_spec(rows: Structure, spec: Structure, length: tf.Tensor | None) -> Structure:
    """Cast rows to the dtypes of `spec` and truncate token axes to `length`, if there is one."""

    def match(tensor: tf.Tensor, tensor_spec: tf.TensorSpec) -> tf.Tensor:
        if length is not None and has_token_axis(tensor_spec):
            tensor = tensor[:, :length]
        return tf.cast(tensor, tensor_spec.dtype)

    return tf.nest.map_structure(match, rows, spec)


def has_token_axis(spec: tf.TensorSpec) -> bool:
    """Return whether the first axis of rows with this spec is a token axis."""
    return spec.shape.rank > 0 and spec.shape[0] is None
