"""Where the frames of a GIF are, found in TensorFlow's graph.

TensorFlow decodes all frames of a GIF before it takes the first, and each may be larger than the
image says it is. So what comes after the first is cut off, and the size is that of the frame.

Source: GIF89a specification, sections 17 to 27.
"""

from __future__ import annotations

import tensorflow as tf

# Outside of a graph each step of a loop takes as long as decoding.
_in_graph = tf.function(input_signature=[tf.TensorSpec([], tf.string)])

_SCREEN = 13  # bytes of the header and the logical screen descriptor
_DESCRIPTOR = 10  # bytes of an image descriptor
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b";"


@_in_graph
def gif_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Returns how many pixels a GIF says it has, or its first frame if those are more, int64."""
    content = _bytes(encoded)
    start = _first_descriptor(content)
    screen = _number(content, 6) * _number(content, 8)
    frame = _number(content, start + 5) * _number(content, start + 7)
    is_frame = _at(content, start) == _IMAGE
    return tf.cast(tf.where(is_frame, tf.maximum(screen, frame), screen), tf.int64)


@_in_graph
def first_frame(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a GIF without its later frames; what ends before the first does stays as it is."""
    content = _bytes(encoded)
    start = _first_descriptor(content)
    # The least size of a code stands between the colours and the codes.
    codes = start + _DESCRIPTOR + _colours(content, start + 9) + 1
    end = _after_blocks(content, codes)
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    is_whole = (_at(content, start) == _IMAGE) & (end <= size)
    start_of_file = tf.constant(0, tf.int64)
    kept = tf.strings.substr(encoded, start_of_file, tf.minimum(end, size))
    cut = tf.strings.join([kept, _TRAILER])
    return tf.where(is_whole, cut, encoded)


def _bytes(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes and a zero, uint8; a zero ends every loop here."""
    return tf.io.decode_raw(tf.strings.join([encoded, b"\0"]), tf.uint8)


def _at(content: tf.Tensor, place: tf.Tensor | int) -> tf.Tensor:
    """Returns a byte as int64; beyond the end it is the zero there."""
    last = tf.size(content, tf.int64) - 1
    return tf.cast(content[tf.minimum(tf.cast(place, tf.int64), last)], tf.int64)


def _number(content: tf.Tensor, place: tf.Tensor | int) -> tf.Tensor:
    return _at(content, place) + 256 * _at(content, place + 1)


def _colours(content: tf.Tensor, place: tf.Tensor | int) -> tf.Tensor:
    """Returns the bytes of the colour table that the flags at a place tell of."""
    flags = _at(content, place)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)


def _first_descriptor(content: tf.Tensor) -> tf.Tensor:
    """Returns where the first frame begins, behind the extensions; or what there is instead."""
    return tf.while_loop(
        lambda place: _at(content, place) == _EXTENSION,
        lambda place: (_after_blocks(content, place + 2),),
        (_SCREEN + _colours(content, 10),),
        parallel_iterations=1,
    )[0]


def _after_blocks(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Returns where a sequence of blocks that begins at a place has ended, with an empty one."""
    end = tf.while_loop(
        lambda place: _at(content, place) > 0,
        lambda place: (place + 1 + _at(content, place),),
        (place,),
        parallel_iterations=1,
    )[0]
    return end + 1
