"""Read bytes and numbers of an encoded file in TensorFlow's graph.

Whatever lies beyond the end of the file reads as zero, so a truncated file raises no error here.
"""

from __future__ import annotations

import tensorflow as tf


def slice_bytes(encoded: tf.Tensor, offset: tf.Tensor | int, size: tf.Tensor | int) -> tf.Tensor:
    """Return up to `size` bytes from `offset` on, a scalar string.

    Args:
      encoded: The file's bytes, a scalar string.
      offset: Where to start, 0 or more.
      size: Number of bytes, 0 or more.
    """
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    start = tf.minimum(tf.cast(offset, tf.int64), length)
    return tf.strings.substr(encoded, start, tf.cast(size, tf.int64))


def read_bytes(encoded: tf.Tensor, offset: tf.Tensor | int, size: int) -> tf.Tensor:
    """Return exactly `size` bytes from `offset` on, int64 [size]."""
    padded = tf.strings.join([slice_bytes(encoded, offset, size), tf.constant(b"\0" * size)])
    values = tf.io.decode_raw(tf.strings.substr(padded, 0, size), tf.uint8)
    return tf.ensure_shape(tf.cast(values, tf.int64), [size])


def big_endian(values: tf.Tensor) -> tf.Tensor:
    """Return the unsigned number that bytes are, most significant first: [..., n] to [...]."""
    powers = [256**power for power in reversed(range(values.shape[-1]))]
    return tf.reduce_sum(values * tf.constant(powers, tf.int64), axis=-1)


def little_endian(values: tf.Tensor) -> tf.Tensor:
    """Return the unsigned number that bytes are, least significant first: [..., n] to [...]."""
    powers = [256**power for power in range(values.shape[-1])]
    return tf.reduce_sum(values * tf.constant(powers, tf.int64), axis=-1)


def replace_bytes(encoded: tf.Tensor, offset: tf.Tensor, content: tf.Tensor | bytes) -> tf.Tensor:
    """Return the file with `content` in place of as many bytes at `offset`."""
    after = offset + tf.cast(tf.strings.length(content), tf.int64)
    length = tf.cast(tf.strings.length(encoded), tf.int64)
    return tf.strings.join(
        [slice_bytes(encoded, 0, offset), content, slice_bytes(encoded, after, length)]
    )
