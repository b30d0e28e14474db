"""Batch normalization over several devices, by the rows of a batch that count.

In place of Keras' own `synchronized=True`, which takes in every row: also those with which a batch
was filled up. See docs/decisions/several-workers.md.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

_traced = threading.local()  # the devices of one process are each traced in a thread of their own


@contextlib.contextmanager
def counting(counts: tf.Tensor | None) -> Iterator[None]:
    """Has the rows that count, float32 [batch], known to `over_all_devices` within the block."""
    before = getattr(_traced, "counts", None)
    _traced.counts = counts
    try:
        yield
    finally:
        _traced.counts = before


@contextlib.contextmanager
def over_all_devices(layers: Sequence[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Within the block layers that train take the statistics of all devices' rows that count."""
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
    """Returns mean and variance of each channel, as the method of Keras that it stands in for."""
    if mask is not None:
        raise NotImplementedError(
            "Batch normalization with a mask cannot train on several devices."
        )
    axes = [axis for axis in range(inputs.shape.rank) if axis != layer.axis % inputs.shape.rank]
    shape = [1] * inputs.shape.rank
    shape[layer.axis] = -1
    # From where it is near 0 the difference of two squares, below, loses fewest digits.
    origin = tf.cast(tf.stop_gradient(tf.convert_to_tensor(layer.moving_mean)), inputs.dtype)
    weights = tf.ones_like(inputs)
    if (counts := getattr(_traced, "counts", None)) is not None:
        weights *= tf.reshape(tf.cast(counts, inputs.dtype), [-1] + [1] * (len(shape) - 1))
    away = (inputs - tf.reshape(origin, shape)) * weights
    own = [tf.reduce_sum(each, axes) for each in (weights, away, away * away)]
    context = tf.distribute.get_replica_context()
    count, total, squares = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
    mean = total / count
    return origin + mean, tf.maximum(squares / count - mean * mean, 0.0)
