"""Synchronized batch normalization that ignores padding rows.

Keras' own `synchronized=True` would include the rows that pad a batch, and computes the variance
as E[x^2] - E[x]^2, which loses all digits where the mean is large. Here the statistics are those of
the unpadded rows of all devices, computed around the moving mean:

    row_mask ----------------+
                             v
    layer inputs -> sums of (1, x - origin, (x - origin)^2) -> all-reduce -> mean, variance

`row_mask` carries the mask from the training step to the layers, past the model in between.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

_traced = threading.local()  # TensorFlow traces the replicas of a process in a thread each


@contextlib.contextmanager
def row_mask(mask: tf.Tensor | None) -> Iterator[None]:
    """Context manager: make `synchronized_statistics` ignore padding rows.

    Args:
      mask: float32 [batch], 1 for an example and 0 for padding; None if no row is padding.
    """
    previous = getattr(_traced, "row_mask", None)
    _traced.row_mask = mask
    try:
        yield
    finally:
        _traced.row_mask = previous


@contextlib.contextmanager
def synchronized_statistics(layers: Sequence[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Context manager: let layers that train use the statistics of all devices' unpadded rows.

    Args:
      layers: BatchNormalization layers, whose method for the moments is replaced on entry and
        restored on exit.
    """
    for layer in layers:
        layer._moments = functools.partial(_moments, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer._moments


def _moments(
    layer: keras.layers.BatchNormalization, inputs: tf.Tensor, mask: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean and variance per channel, [channels] each, as `BatchNormalization._moments`."""
    if mask is not None:
        raise NotImplementedError(
            "Batch normalization with a mask cannot be trained on several devices."
        )
    rank = inputs.shape.rank
    axes = [axis for axis in range(rank) if axis != layer.axis % rank]
    shape = [1] * rank
    shape[layer.axis] = -1
    # The variance below is a difference of two squares, which loses the fewest digits near 0.
    origin = tf.cast(tf.stop_gradient(tf.convert_to_tensor(layer.moving_mean)), inputs.dtype)
    weights = tf.ones_like(inputs)
    if (rows := getattr(_traced, "row_mask", None)) is not None:
        weights *= tf.reshape(tf.cast(rows, inputs.dtype), [-1] + [1] * (len(shape) - 1))
    centered = (inputs - tf.reshape(origin, shape)) * weights
    local = [tf.reduce_sum(values, axes) for values in (weights, centered, centered * centered)]
    context = tf.distribute.get_replica_context()
    count, total, squares = context.all_reduce(tf.distribute.ReduceOp.SUM, local)
    mean = total / count
    return origin + mean, tf.maximum(squares / count - mean * mean, 0.0)
