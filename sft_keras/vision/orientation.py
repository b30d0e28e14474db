"""Turn images upright as their Exif orientation says, in TensorFlow's graph.

Cameras and phones store the sensor's rows and note in Exif how they were held. Every viewer turns
the image before it shows it; TensorFlow's decoders do not.

Source: Exif 2.32, sections 4.5.2 and 4.6.4 (tag 0x0112).
"""

from __future__ import annotations

import tensorflow as tf

from sft_keras.vision.file_bytes import big_endian, little_endian, read_bytes, slice_bytes

_TAG = 0x0112
_SHORT, _LONG = 3, 4  # types of a number
_ENTRY = 12  # bytes
_MAX_ENTRIES = 200


def turn_upright(image: tf.Tensor, encoded: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Turn and mirror pixels as the Exif data of their file says.

    Args:
      image: The decoded pixels, [height, width, channels].
      encoded: The file's bytes, a scalar string.
      exif: The offset of its Exif data, int64; 0 for none.
    """
    return tf.cond(exif > 0, lambda: _turn(image, _orientation(encoded, exif)), lambda: image)


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    swapped = (1, 0, 2)  # rows become columns
    return tf.switch_case(
        orientation - 1,
        [
            lambda: image,
            lambda: tf.reverse(image, [1]),
            lambda: tf.reverse(image, [0, 1]),
            lambda: tf.reverse(image, [0]),
            lambda: tf.transpose(image, swapped),
            lambda: tf.reverse(tf.transpose(image, swapped), [1]),
            lambda: tf.reverse(tf.transpose(image, swapped), [0, 1]),
            lambda: tf.reverse(tf.transpose(image, swapped), [0]),
        ],
    )


def _orientation(encoded: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Return the orientation noted in Exif data, int32 in 1..8; 1, upright, if it is not valid."""
    order = slice_bytes(encoded, exif, 2)
    is_little = order == b"II"

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(is_little, little_endian(values), big_endian(values))

    directory = exif + number(read_bytes(encoded, exif + 4, 4))
    count = tf.minimum(number(read_bytes(encoded, directory, 2)), _MAX_ENTRIES)
    content = read_bytes(encoded, directory + 2, _MAX_ENTRIES * _ENTRY)
    entries = tf.reshape(content, [_MAX_ENTRIES, _ENTRY])[:count]
    kind = number(entries[:, 2:4])
    short, long = number(entries[:, 8:10]), number(entries[:, 8:12])
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 0))
    is_valid = (number(entries[:, :2]) == _TAG) & (value >= 1) & (value <= 8)
    is_exif = is_little | (order == b"MM")
    values = tf.boolean_mask(value, is_valid & is_exif)
    return tf.cast(tf.concat([values, [tf.constant(1, tf.int64)]], axis=0)[0], tf.int32)
