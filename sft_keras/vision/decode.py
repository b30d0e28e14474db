"""Decode and resize images in TensorFlow's graph.

Training, prediction and the exported SavedModel share these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from sft_keras.vision.chunks import (
    is_transparent_webp,
    jpeg_exif,
    may_have_exif,
    read_png_header,
    webp_exif,
)
from sft_keras.vision.gif import first_frame, recolour_transparent
from sft_keras.vision.image_size import require_moderate_size
from sft_keras.vision.orientation import turn_upright
from sft_keras.vision.transparency import LEVELS, Background, composite

Fit = Literal["stretch", "crop", "pad"]

_BMP_HEADER = 54  # bytes
_PALETTE_BITS = 8
_DEPTHS = (8, 10, 12, 14, 16)  # bits per channel of sensors


def decode_image(encoded: tf.Tensor, background: Background = "white") -> tf.Tensor:
    """Decode one image file to the pixels that a viewer shows.

    Images are turned upright by their Exif orientation, transparent ones are put on a background,
    animated GIFs are reduced to their first frame, and CMYK is converted to RGB. 16 bits per
    channel are reduced to 8 by the range in use, see `reduce_to_8_bits`.

    Args:
      encoded: The file's bytes (JPEG, PNG, GIF, BMP or WebP), a scalar string.
      background: The colour behind transparent pixels; "none" to drop the opacity.

    Returns:
      RGB pixels, uint8 [height, width, 3].

    Raises:
      InvalidArgumentError: At run time, if the file is not such an image, is truncated, declares
        more than `MAX_PIXELS` pixels, or is of a kind that `undecodable_reason` reports.
    """
    with tf.control_dependencies([require_moderate_size(encoded)]):
        is_jpeg = tf.strings.substr(encoded, 0, 2) == b"\xff\xd8"
        image = tf.cond(
            is_jpeg,
            lambda: _decode_jpeg(encoded),
            lambda: _function(_decode_other, background)(encoded),
        )
    return tf.ensure_shape(image, [None, None, 3])


def reduce_to_8_bits(image: tf.Tensor) -> tf.Tensor:
    """Return pixels of 16 bits per channel as 8 bits per channel, by the range in use.

    Microscopes, scanners and cameras store 10, 12 or 14 bits in 16. Without scaling, these would
    be almost black. The range is the smallest of these depths that holds the largest colour of the
    image that is not transparent, so that it depends on nothing but the image.

    Args:
      image: uint16 [height, width, 4], the fourth channel being the opacity.

    Returns:
      uint8 [height, width, 4].
    """
    colours, opacity = tf.cast(image[..., :3], tf.int32), tf.cast(image[..., 3:], tf.int32)
    largest = tf.reduce_max(tf.where(opacity > 0, colours, 0))
    surplus = tf.reduce_sum(tf.cast(largest >= [2**bits for bits in _DEPTHS[:-1]], tf.int32))
    shift = tf.gather(_DEPTHS, surplus) - 8
    scaled = tf.minimum(tf.bitwise.right_shift(colours, shift), 255)
    return tf.cast(tf.concat([scaled, tf.bitwise.right_shift(opacity, 8)], axis=-1), tf.uint8)


def resize_image(image: tf.Tensor, image_size: tuple[int, int], fit: Fit) -> tf.Tensor:
    """Resize one image to the model's input size: bilinear, with antialiasing.

    Args:
      image: Any numeric dtype in 0..255, [height, width, 1, 3 or 4]; grey is repeated over three
        channels, a fourth channel is dropped.
      image_size: (height, width) in pixels.
      fit: "stretch" to the size, "crop" the center to the right aspect ratio, or "pad" with black.

    Returns:
      RGB pixels, uint8 [height, width, 3].
    """
    image = image[..., :3]
    height, width = image_size
    if fit == "crop":
        image = _crop_center(image, height, width)
    inner = _fit_inside(image, height, width) if fit == "pad" else (height, width)
    resized = tf.image.resize(image, inner, method="bilinear", antialias=True)
    if fit == "pad":
        resized = tf.image.resize_with_crop_or_pad(resized, height, width)
    pixels = tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
    return tf.broadcast_to(pixels, [height, width, 3])


def read_pixels(
    image: tf.Tensor, image_size: tuple[int, int], fit: Fit, background: Background = "white"
) -> tf.Tensor:
    """Return an image of `Examples.stream`, encoded or not, as uint8 [height, width, 3]."""
    decoded = decode_image(image, background) if image.dtype == tf.string else image
    return resize_image(decoded, image_size, fit)


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


@functools.cache
def _function(
    decode: Callable[[tf.Tensor, Background], tf.Tensor], background: Background
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a decoder as a function that TensorFlow does not inline.

    An inlined branch takes time even where it is not taken: 2 ms per image for all of them.
    """
    return tf.function(
        lambda encoded: decode(encoded, background),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        may_have_exif(encoded),
        lambda: _function(_decode_turned_jpeg, "none")(encoded),
        lambda: _decode(encoded),
    )


def _decode_turned_jpeg(encoded: tf.Tensor, background: Background) -> tf.Tensor:
    del background  # a JPEG is never transparent
    return turn_upright(_decode(encoded), encoded, jpeg_exif(encoded))


def _decode_other(encoded: tf.Tensor, background: Background) -> tf.Tensor:
    start = tf.strings.substr(encoded, 0, 4)
    return tf.case(
        [
            (start == b"\x89PNG", lambda: _function(_decode_png, background)(encoded)),
            (start == b"GIF8", lambda: _function(_decode_gif, background)(encoded)),
            (start == b"RIFF", lambda: _function(_decode_webp, background)(encoded)),
            (tf.strings.substr(encoded, 0, 2) == b"BM", lambda: _decode_bmp(encoded)),
        ],
        default=lambda: _decode(encoded),
    )


def _decode_gif(encoded: tf.Tensor, background: Background) -> tf.Tensor:
    return _decode(first_frame(recolour_transparent(encoded, LEVELS.get(background))))


def _decode_png(encoded: tf.Tensor, background: Background) -> tf.Tensor:
    header = read_png_header(encoded)

    def decode_deep() -> tf.Tensor:
        pixels = tf.io.decode_png(encoded, channels=4, dtype=tf.uint16)
        return composite(reduce_to_8_bits(pixels), background)

    def decode_transparent() -> tf.Tensor:
        return composite(tf.io.decode_png(encoded, channels=4), background)

    image = tf.case(
        [(header.bits == 16, decode_deep), (header.is_transparent, decode_transparent)],
        default=lambda: _decode(encoded),
    )
    return turn_upright(image, encoded, header.exif)


def _decode_webp(encoded: tf.Tensor, background: Background) -> tf.Tensor:
    # The number of channels must be that of the file; to let TensorFlow find it (0) aborts the
    # process on animations.
    image = tf.cond(
        is_transparent_webp(encoded),
        lambda: composite(
            tf.io.decode_image(encoded, channels=4, expand_animations=False), background
        ),
        lambda: _decode(encoded),
    )
    return turn_upright(image, encoded, webp_exif(encoded))


def _sides(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.shape(image)
    return tf.cast(shape[0], tf.float64), tf.cast(shape[1], tf.float64)


def _round_side(side: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1, tf.cast(tf.round(side), tf.int32))


def _crop_center(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    # Crop before resizing: the result is the same, but a very long image is never resized whole.
    rows, columns = _sides(image)
    kept_rows = _round_side(tf.minimum(rows, columns * height / width))
    kept_columns = _round_side(tf.minimum(columns, rows * width / height))
    top = (tf.shape(image)[0] - kept_rows) // 2
    left = (tf.shape(image)[1] - kept_columns) // 2
    return tf.image.crop_to_bounding_box(image, top, left, kept_rows, kept_columns)


def _fit_inside(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return the largest size with the image's aspect ratio within (height, width)."""
    rows, columns = _sides(image)
    scale = tf.minimum(height / rows, width / columns)
    return tf.stack([_round_side(rows * scale), _round_side(columns * scale)])


def _bmp_header(encoded: tf.Tensor) -> tf.Tensor:
    """Return the first 54 bytes as int32 [54], padded with zeros."""
    start = tf.strings.substr(encoded, 0, _BMP_HEADER)
    padded = tf.strings.join([start, tf.constant(b"\0" * _BMP_HEADER)])
    return tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, _BMP_HEADER), tf.uint8), tf.int32)


def _number(header: tf.Tensor, offset: int, size: int) -> tf.Tensor:
    """Return the unsigned little-endian number of `size` bytes, at most 3, at `offset`."""
    # Three of a field's four bytes are enough here, and fit int32.
    return tf.reduce_sum(header[offset : offset + size] * [256**byte for byte in range(size)])


def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    header = _bmp_header(encoded)
    return tf.cond(
        _number(header, 28, 2) == _PALETTE_BITS,
        lambda: _decode_palette_bmp(encoded, header),
        lambda: _decode(encoded),
    )


def _decode_palette_bmp(encoded: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    # TensorFlow 2.21 mistakes palette indices for grey values.
    is_uncompressed = tf.debugging.Assert(
        _number(header, 30, 3) == 0, ["A compressed BMP cannot be decoded."]
    )
    with tf.control_dependencies([is_uncompressed]):
        palette_indices = tf.io.decode_bmp(encoded, channels=0)[..., 0]
    used = _number(header, 46, 3)
    colours = tf.where(used == 0, 2**_PALETTE_BITS, used)
    # An offset beyond the file would raise an error that quotes the file's bytes, which TensorFlow
    # then fails to decode as UTF-8. For an empty table, gather reports too few colours.
    offset = tf.minimum(14 + _number(header, 14, 3), tf.strings.length(encoded))
    table = tf.strings.substr(encoded, offset, 4 * colours)
    blue_green_red = tf.reshape(tf.io.decode_raw(table, tf.uint8), [-1, 4])
    return tf.gather(tf.reverse(blue_green_red[:, :3], [1]), tf.cast(palette_indices, tf.int32))
