"""Read the declared size of an encoded image from its header, in TensorFlow's graph.

A file of a few kilobytes may declare billions of pixels, and decoding it would exhaust the memory;
so images that are too large are rejected before.
"""

from __future__ import annotations

import tensorflow as tf

from sft_keras.vision.gif import gif_pixels

MAX_PIXELS = 2**26
"""The largest number of pixels of an image, 8192 by 8192: 200 MB once decoded."""

_HEADER = 32  # bytes


def require_moderate_size(encoded: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Operation:
    """Return an operation that fails if an image declares too many pixels.

    Args:
      encoded: A file's bytes, a scalar string.
      max_pixels: The largest number of pixels.
    """
    pixels = declared_pixels(encoded)
    # The message is not formatted here: that would be done for every image.
    return tf.debugging.Assert(
        pixels <= max_pixels, ["pixels are too many; at most", max_pixels, "are decoded:", pixels]
    )


def declared_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return height times width as the header declares them; 0 for unknown formats.

    Args:
      encoded: A file's bytes (JPEG, PNG, GIF, BMP or WebP), a scalar string.

    Returns:
      int64 scalar.
    """
    # Checked first: most images are JPEGs, and the rest takes as long as decoding a small one.
    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    return tf.cond(is_jpeg, lambda: _jpeg(encoded), lambda: _not_jpeg(encoded))


def _not_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    start = tf.strings.substr(encoded, 0, _HEADER)
    padded = tf.strings.join([start, tf.constant(b"\0" * _HEADER)])
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER), tf.uint8), tf.int64)
    kinds = (
        (b"\x89PNG\r\n\x1a\n", lambda: _big(header, 16) * _big(header, 20)),
        (b"GIF8", lambda: gif_pixels(encoded)),
        # The height of a BMP is negative if its rows are stored top to bottom.
        (b"BM", lambda: _signed(header, 18) * _signed(header, 22)),
        (b"RIFF", lambda: _webp(header)),
    )
    zero = tf.constant(0, tf.int64)
    return tf.case(
        [(tf.strings.substr(encoded, 0, len(mark)) == mark, size) for mark, size in kinds],
        default=lambda: zero,
    )


def _jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Return the pixels of a JPEG; fails, with libjpeg's reason, if the size is truncated."""
    shape = tf.image.extract_jpeg_shape(encoded, tf.int32)
    return tf.reduce_prod(tf.cast(shape[:2], tf.int64))


def _webp(header: tf.Tensor) -> tf.Tensor:
    """Return the pixels of any of the three kinds of WebP (RFC 9649, sections 2.5 to 2.7)."""
    kinds = tf.constant([list(b"VP8 "), list(b"VP8L"), list(b"VP8X")], tf.int64)
    # libwebp also decodes files without such a chunk, whose size is stored elsewhere.
    is_known = tf.debugging.Assert(
        tf.reduce_any(tf.reduce_all(header[12:16] == kinds, axis=1)),
        ["A WebP must start with a VP8, VP8L or VP8X chunk."],
    )
    with tf.control_dependencies([is_known]):
        kind = tf.identity(header[15])
    simple = (_little(header, 26, 2) % 2**14) * (_little(header, 28, 2) % 2**14)
    bits = _little(header, 21, 4)
    lossless = (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)
    extended = (_little(header, 24, 3) + 1) * (_little(header, 27, 3) + 1)
    return tf.where(kind == ord("X"), extended, tf.where(kind == ord("L"), lossless, simple))


def _little(header: tf.Tensor, offset: int, size: int) -> tf.Tensor:
    weights = tf.constant([256**byte for byte in range(size)], tf.int64)
    return tf.reduce_sum(header[offset : offset + size] * weights)


def _big(header: tf.Tensor, offset: int) -> tf.Tensor:
    weights = tf.constant([256**byte for byte in (3, 2, 1, 0)], tf.int64)
    value = tf.reduce_sum(header[offset : offset + 4] * weights)
    return tf.minimum(value, 2**31)  # so that the product of two still fits int64


def _signed(header: tf.Tensor, offset: int) -> tf.Tensor:
    value = _little(header, offset, 4)
    return tf.minimum(value, 2**32 - value)
