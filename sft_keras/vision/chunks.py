"""Locate metadata of JPEG, PNG and WebP files in TensorFlow's graph.

Sources: Exif 2.32, section 4.7.2 (JPEG markers); PNG specification, third edition, sections 5.3 and
11.3; RFC 9649, section 2.7 (WebP).
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from sft_keras.vision.file_bytes import big_endian, little_endian, read_bytes, slice_bytes

# Outside a graph, every step of a loop takes as long as decoding.
_in_graph = tf.function(input_signature=[tf.TensorSpec([], tf.string)])

# A file may consist of millions of empty chunks; metadata follows after a few.
_MAX_CHUNKS = 200
_EXIF_MARK = b"Exif\0\0"


@dataclasses.dataclass(frozen=True)
class PngHeader:
    """What decides how a PNG is decoded.

    Attributes:
      bits: Bits per channel, int64.
      is_transparent: Whether it has an alpha channel or transparent colours, bool.
      exif: Offset of its Exif data, int64; 0 for none.
    """

    bits: tf.Tensor
    is_transparent: tf.Tensor
    exif: tf.Tensor


def read_png_header(encoded: tf.Tensor) -> PngHeader:
    """Return the header of a PNG."""
    start = read_bytes(encoded, 24, 17)
    bits, colour_type = start[0], start[1]
    zero = tf.constant(0, tf.int64)
    # Many files have no chunk between the header and the pixels.
    is_plain = tf.reduce_all(start[13:] == tf.constant(list(b"IDAT"), tf.int64))
    transparency, exif = tf.cond(is_plain, lambda: (zero, zero), lambda: _png_metadata(encoded))
    has_alpha = (colour_type == 4) | (colour_type == 6)
    return PngHeader(bits, has_alpha | (transparency > 0), exif)


def may_have_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Return whether a JPEG has segments in which Exif data may be, bool.

    Most JPEGs of the web have only the segment of JFIF, and searching a small one takes as long as
    decoding it.
    """
    start = read_bytes(encoded, 2, 20)
    is_jfif = tf.reduce_all(start[:4] == [0xFF, 0xE0, 0, 16])
    marker = tf.where(is_jfif, start[18:], start[:2])
    return _is_application_marker(marker)


def jpeg_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Return the offset of the Exif data in a JPEG, int64; 0 for none."""
    return _jpeg_exif(encoded)


def is_transparent_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Return whether a WebP has an alpha channel and is not animated, bool."""
    start = read_bytes(encoded, 12, 13)
    flags = tf.where(start[3] == ord("X"), start[8], start[12])  # of the extended, or lossless
    is_animated = (start[3] == ord("X")) & (tf.bitwise.bitwise_and(flags, 0b10) > 0)
    has_flags = (start[3] == ord("X")) | (start[3] == ord("L"))
    return has_flags & ~is_animated & (tf.bitwise.bitwise_and(flags, 0b10000) > 0)


def webp_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Return the offset of the Exif data in a WebP, int64; 0 for none."""
    offset = _webp_exif(encoded)
    # Some programs repeat the mark of a JPEG here.
    is_marked = slice_bytes(encoded, offset, len(_EXIF_MARK)) == _EXIF_MARK
    return offset + tf.where(is_marked, tf.constant(len(_EXIF_MARK), tf.int64), 0)


def _is_application_marker(marker: tf.Tensor) -> tf.Tensor:
    """Return whether two bytes begin a segment of an application, or a comment."""
    kind = marker[1]
    return (marker[0] == 0xFF) & (((kind >= 0xE0) & (kind <= 0xEF)) | (kind == 0xFE))


@_in_graph
def _jpeg_exif(encoded: tf.Tensor) -> tf.Tensor:
    def is_exif(segment: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(segment[4:] == list(_EXIF_MARK)) & (segment[1] == 0xE1)

    def read(offset: tf.Tensor) -> tf.Tensor:
        return read_bytes(encoded, offset, 4 + len(_EXIF_MARK))

    def following(offset: tf.Tensor, segment: tf.Tensor, left: tf.Tensor) -> tuple[tf.Tensor, ...]:
        offset += 2 + tf.maximum(big_endian(segment[2:4]), 2)
        return offset, read(offset), left - 1

    first = tf.constant(2, tf.int64)
    offset, segment, _ = tf.while_loop(
        lambda _, segment, left: (
            (left > 0) & _is_application_marker(segment[:2]) & ~is_exif(segment)
        ),
        following,
        (first, read(first), tf.constant(_MAX_CHUNKS)),
        parallel_iterations=1,
    )
    return tf.where(is_exif(segment), offset + 4 + len(_EXIF_MARK), 0)


@_in_graph
def _png_metadata(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the offsets of a PNG's transparent colours and of its Exif data; 0 for none."""

    def kind_at(offset: tf.Tensor) -> tf.Tensor:
        return slice_bytes(encoded, offset + 4, 4)

    def goes_on(offset: tf.Tensor, left: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        kind = kind_at(offset)
        return (kind != b"IDAT") & (tf.strings.length(kind) == 4) & (left > 0)

    def following(
        offset: tf.Tensor, left: tf.Tensor, transparency: tf.Tensor, exif: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        kind = kind_at(offset)
        return (
            offset + 12 + big_endian(read_bytes(encoded, offset, 4)),
            left - 1,
            tf.where(kind == b"tRNS", offset + 8, transparency),
            tf.where(kind == b"eXIf", offset + 8, exif),
        )

    zero = tf.constant(0, tf.int64)
    _, _, transparency, exif = tf.while_loop(
        goes_on,
        following,
        (tf.constant(8, tf.int64), tf.constant(_MAX_CHUNKS), zero, zero),
        parallel_iterations=1,
    )
    return transparency, exif


@_in_graph
def _webp_exif(encoded: tf.Tensor) -> tf.Tensor:
    def kind_at(offset: tf.Tensor) -> tf.Tensor:
        return slice_bytes(encoded, offset, 4)

    def goes_on(offset: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        kind = kind_at(offset)
        return (kind != b"EXIF") & (tf.strings.length(kind) == 4) & (left > 0)

    def following(offset: tf.Tensor, left: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = little_endian(read_bytes(encoded, offset + 4, 4))
        return offset + 8 + size + size % 2, left - 1

    # Only the extended format has metadata, and its first chunk says so.
    flags = read_bytes(encoded, 20, 1)[0]
    has_exif = (slice_bytes(encoded, 12, 4) == b"VP8X") & (tf.bitwise.bitwise_and(flags, 8) > 0)
    most = tf.where(has_exif, _MAX_CHUNKS, 0)
    offset, _ = tf.while_loop(
        goes_on, following, (tf.constant(12, tf.int64), most), parallel_iterations=1
    )
    return tf.where(kind_at(offset) == b"EXIF", offset + 8, 0)
