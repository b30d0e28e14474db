"""Rows of tokens brought to one length."""

from __future__ import annotations

import tensorflow as tf


def padded(rows: tf.RaggedTensor, length: tf.Tensor | int, padding: int) -> tf.Tensor:
    """Returns [n, (tokens)] as [n, length]: cut off, or filled up at the end; works in a graph."""
    wide = rows.to_tensor(padding)[:, :length]
    missing = length - tf.shape(wide)[1]
    return tf.pad(wide, [[0, 0], [0, missing]], constant_values=padding)
