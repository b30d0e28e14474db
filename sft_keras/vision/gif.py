"""Locate the frames of a GIF in TensorFlow's graph.

TensorFlow decodes all frames of a GIF before it selects the first, and each frame may be larger
than the declared image. So everything after the first frame is removed before decoding, and the
size is that of the frame.

Source: GIF89a specification, sections 17 to 27.
"""

from __future__ import annotations

import tensorflow as tf

from sft_keras.vision.file_bytes import replace_bytes

# Outside a graph, every step of a loop takes as long as decoding.
_in_graph = tf.function(input_signature=[tf.TensorSpec([], tf.string)])

_SCREEN = 13  # bytes of the header and the logical screen descriptor
_DESCRIPTOR = 10  # bytes of an image descriptor
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b";"
_GRAPHIC_CONTROL = 0xF9
_ALL_BYTES = bytes(range(256))


@_in_graph
def gif_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return the declared pixels of a GIF or of its first frame, whichever is more, int64."""
    content = _bytes(encoded)
    start = _first_descriptor(content)
    screen = _number(content, 6) * _number(content, 8)
    frame = _number(content, start + 5) * _number(content, start + 7)
    is_frame = _at(content, start) == _IMAGE
    return tf.cast(tf.where(is_frame, tf.maximum(screen, frame), screen), tf.int64)


@_in_graph
def first_frame(encoded: tf.Tensor) -> tf.Tensor:
    """Return a GIF without its later frames; a file that ends within the first stays unchanged."""
    content = _bytes(encoded)
    start = _first_descriptor(content)
    # The minimum code size is stored between the colour table and the codes.
    codes = start + _DESCRIPTOR + _colours(content, start + 9) + 1
    end = _after_blocks(content, codes)
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    is_whole = (_at(content, start) == _IMAGE) & (end <= size)
    start_of_file = tf.constant(0, tf.int64)
    kept = tf.strings.substr(encoded, start_of_file, tf.minimum(end, size))
    return tf.where(is_whole, tf.strings.join([kept, _TRAILER]), encoded)


def recolour_transparent(encoded: tf.Tensor, level: int | None) -> tf.Tensor:
    """Return a GIF whose first frame is opaque.

    TensorFlow decodes transparent pixels as black. Their index belongs to them only, so its entry
    in the colour table can be any colour.

    Args:
      encoded: A GIF, a scalar string.
      level: The grey level of transparent pixels, 0..255; None for the stored colour.
    """
    flags, entry, value = _transparency(encoded)

    def recoloured() -> tf.Tensor:
        # The lowest bit says that a colour is transparent.
        opaque = replace_bytes(encoded, flags, tf.strings.substr(_ALL_BYTES, value - 1, 1))
        return opaque if level is None else replace_bytes(opaque, entry, bytes([level]) * 3)

    return tf.cond(flags > 0, recoloured, lambda: encoded)


@_in_graph
def _transparency(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return (offset of the first frame's flags, offset of its transparent colour, the flags).

    All are int64; the offsets are 0 if no colour is transparent.
    """
    content = _bytes(encoded)
    zero = tf.constant(0, tf.int64)

    def is_control(offset: tf.Tensor) -> tf.Tensor:
        return (_at(content, offset + 1) == _GRAPHIC_CONTROL) & (_at(content, offset + 2) == 4)

    start, control = tf.while_loop(
        lambda offset, _: _at(content, offset) == _EXTENSION,
        lambda offset, control: (
            _after_blocks(content, offset + 2),
            tf.where((control == 0) & is_control(offset), offset, control),
        ),
        (_SCREEN + _colours(content, 10), zero),
        parallel_iterations=1,
    )
    flags, index = _at(content, control + 3), _at(content, control + 6)
    local = _colours(content, start + 9)
    table = tf.where(local > 0, start + _DESCRIPTOR, tf.constant(_SCREEN, tf.int64))
    size = tf.where(local > 0, local, _colours(content, 10))
    is_transparent = (control > 0) & (flags % 2 == 1) & (3 * index < size)
    is_transparent &= _at(content, start) == _IMAGE
    return (
        tf.where(is_transparent, control + 3, zero),
        tf.where(is_transparent, table + 3 * index, zero),
        flags,
    )


def _bytes(encoded: tf.Tensor) -> tf.Tensor:
    """Return the bytes followed by a zero, uint8; a zero ends every loop here."""
    return tf.io.decode_raw(tf.strings.join([encoded, b"\0"]), tf.uint8)


def _at(content: tf.Tensor, offset: tf.Tensor | int) -> tf.Tensor:
    """Return a byte as int64; beyond the end, the final zero."""
    last = tf.size(content, tf.int64) - 1
    return tf.cast(content[tf.minimum(tf.cast(offset, tf.int64), last)], tf.int64)


def _number(content: tf.Tensor, offset: tf.Tensor | int) -> tf.Tensor:
    return _at(content, offset) + 256 * _at(content, offset + 1)


def _colours(content: tf.Tensor, offset: tf.Tensor | int) -> tf.Tensor:
    """Return the size in bytes of the colour table declared by the flags at an offset."""
    flags = _at(content, offset)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)


def _first_descriptor(content: tf.Tensor) -> tf.Tensor:
    """Return the offset after the extensions, where the first frame should start."""
    return tf.while_loop(
        lambda offset: _at(content, offset) == _EXTENSION,
        lambda offset: (_after_blocks(content, offset + 2),),
        (_SCREEN + _colours(content, 10),),
        parallel_iterations=1,
    )[0]


def _after_blocks(content: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Return the offset after a sequence of blocks, which an empty block ends."""
    end = tf.while_loop(
        lambda offset: _at(content, offset) > 0,
        lambda offset: (offset + 1 + _at(content, offset),),
        (start,),
        parallel_iterations=1,
    )[0]
    return end + 1
