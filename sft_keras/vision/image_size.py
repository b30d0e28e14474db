"""How large an encoded image says it is, read from its header in TensorFlow's graph.

A file of some kilobytes may say that it is of billions of pixels, and decoding it would take all
memory; so what is too large is refused before.
"""

from __future__ import annotations

import tensorflow as tf

from sft_keras.vision.gif import gif_pixels

LARGEST_IMAGE = 2**26
"""Pixels; 8192 by 8192. Decoded, such an image takes 200 MB."""

_HEADER = 32  # bytes


def require_moderate_size(encoded: tf.Tensor, largest: int = LARGEST_IMAGE) -> tf.Operation:
    """Returns an operation that fails where an image says it has more pixels than `largest`.

    Args:
      encoded: A file's bytes, a scalar string.
      largest: Pixels.
    """
    pixels = declared_pixels(encoded)
    # The words are not put together here: that would be done for every image.
    return tf.debugging.Assert(
        pixels <= largest, ["pixels are too many; at most", largest, "are decoded:", pixels]
    )


def declared_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Returns height times width as the header of a file says; 0 for what is no known image.

    Args:
      encoded: A file's bytes (JPEG, PNG, GIF, BMP or WebP), a scalar string.

    Returns:
      int64 scalar.
    """
    # By itself, since most images are JPEGs and the rest takes as long as decoding a small one.
    is_jpeg = tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff"
    return tf.cond(is_jpeg, lambda: _jpeg(encoded), lambda: _not_jpeg(encoded))


def _not_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    start = tf.strings.substr(encoded, 0, _HEADER)
    padded = tf.strings.join([start, tf.constant(b"\0" * _HEADER)])
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER), tf.uint8), tf.int64)
    kinds = (
        (b"\x89PNG\r\n\x1a\n", lambda: _big(header, 16) * _big(header, 20)),
        (b"GIF8", lambda: gif_pixels(encoded)),
        # The height of a BMP is negative where its rows go from the top.
        (b"BM", lambda: _signed(header, 18) * _signed(header, 22)),
        (b"RIFF", lambda: _webp(header)),
    )
    zero = tf.constant(0, tf.int64)
    return tf.case(
        [(tf.strings.substr(encoded, 0, len(mark)) == mark, size) for mark, size in kinds],
        default=lambda: zero,
    )


def _jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Fails, with libjpeg's reason, for a file that is cut off before it says its size."""
    shape = tf.image.extract_jpeg_shape(encoded, tf.int32)
    return tf.reduce_prod(tf.cast(shape[:2], tf.int64))


def _webp(header: tf.Tensor) -> tf.Tensor:
    """Of the three kinds of WebP, RFC 9649, sections 2.5 to 2.7; fails for any other."""
    kinds = tf.constant([list(b"VP8 "), list(b"VP8L"), list(b"VP8X")], tf.int64)
    # libwebp also decodes what has no such chunk, and then its size is elsewhere.
    is_known = tf.debugging.Assert(
        tf.reduce_any(tf.reduce_all(header[12:16] == kinds, axis=1)),
        ["A WebP must begin with a chunk VP8, VP8L or VP8X."],
    )
    with tf.control_dependencies([is_known]):
        kind = tf.identity(header[15])
    simple = (_little(header, 26, 2) % 2**14) * (_little(header, 28, 2) % 2**14)
    bits = _little(header, 21, 4)
    lossless = (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)
    extended = (_little(header, 24, 3) + 1) * (_little(header, 27, 3) + 1)
    return tf.where(kind == ord("X"), extended, tf.where(kind == ord("L"), lossless, simple))


def _little(header: tf.Tensor, offset: int, size: int) -> tf.Tensor:
    weights = tf.constant([256**place for place in range(size)], tf.int64)
    return tf.reduce_sum(header[offset : offset + size] * weights)


def _big(header: tf.Tensor, offset: int) -> tf.Tensor:
    weights = tf.constant([256**place for place in (3, 2, 1, 0)], tf.int64)
    value = tf.reduce_sum(header[offset : offset + 4] * weights)
    return tf.minimum(value, 2**31)  # so that two of them multiplied still are an int64


def _signed(header: tf.Tensor, offset: int) -> tf.Tensor:
    value = _little(header, offset, 4)
    return tf.minimum(value, 2**32 - value)
