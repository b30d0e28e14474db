"""Convert image files that TensorFlow cannot decode to PNG, with Pillow.

TIFF, HEIC, AVIF, JPEG 2000 and PNM are converted where files are read, in training, evaluation and
prediction alike; PNG is lossless, so all see the same pixels. The SavedModel consists of TensorFlow
only and rejects such files.
"""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from sft_keras.vision.image_size import MAX_PIXELS

BY_TENSORFLOW = ("JPEG", "PNG", "GIF", "BMP", "WebP")
"""Formats that TensorFlow decodes."""

_FORMATS = {"TIFF": "TIFF", "HEIC": "HEIF", "AVIF": "AVIF", "JPEG 2000": "JPEG2000", "PNM": "PPM"}
_STARTS = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP"),
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
    (re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"), "TIFF"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftypmif1.{0,24}avif", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(?:he[iv][csxm]|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s"), "PNM"),
)
START = 64
"""Number of bytes at the start of a file that `image_format` needs."""

_MAX_VALUE = 2**16 - 1


def image_format(start: bytes) -> str | None:
    """Return the format of an image file by its first bytes, or None if it is not an image.

    >>> image_format(b"\\x89PNG\\r\\n\\x1a\\n"), image_format(b"BMW was founded in 1916.")
    ('PNG', None)
    """
    return next((name for pattern, name in _STARTS if pattern.match(start[:START])), None)


def is_convertible(encoded: bytes) -> bool:
    """Return whether a file is an image of a format that only Pillow reads."""
    return image_format(encoded) in _FORMATS


def to_png(encoded: bytes) -> bytes:
    """Return an image as PNG; one of `BY_TENSORFLOW`, or what is no image, as it is.

    Raises:
      ValueError: If it cannot be read; the message is the reason.
    """
    name = image_format(encoded)
    if name not in _FORMATS:
        return encoded
    if name == "HEIC":
        _register_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on damaged metadata
            image = Image.open(io.BytesIO(encoded), formats=[_FORMATS[name]])
            if image.width * image.height > MAX_PIXELS:
                raise _UnreadableError(
                    f"a {name} of more than {MAX_PIXELS:,} pixels; scale it down"
                )
            png = io.BytesIO()
            _to_png_mode(ImageOps.exif_transpose(image), name).save(png, "PNG", compress_level=1)
    except _UnreadableError:
        raise
    except UnidentifiedImageError as error:  # its message is the address of the file object
        raise _UnreadableError(f"a damaged or truncated {name}") from error
    except Exception as error:  # Pillow raises almost any for a damaged file
        raise _UnreadableError(f"a damaged or truncated {name} ({error})") from error
    return png.getvalue()


def in_stream(encoded: tf.Tensor) -> tf.Tensor:
    """Return `to_png` of an image in a graph; what cannot be read stays as it is."""

    def convert(content: bytes) -> bytes:
        try:
            return to_png(content)
        except ValueError:  # its reason is reported when it cannot be decoded either
            return content

    def converted() -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(convert, [encoded], tf.string, stateful=False), [])

    starts = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
    is_known = tf.reduce_any(
        [tf.strings.substr(encoded, 0, len(start)) == start for start in starts]
    )
    return tf.cond(is_known, lambda: encoded, converted)


class _UnreadableError(ValueError):
    """The image cannot be read; the message is the reason."""


def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise _UnreadableError(
            "a HEIC, which requires pillow-heif: pip install pillow-heif"
        ) from error
    register_heif_opener()


def _to_png_mode(image: Image.Image, name: str) -> Image.Image:
    """Return the image in a mode that PNG stores with the same colours."""
    image.load()
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        values = np.asarray(image)
        is_whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
        if not is_whole or values.min() < 0 or values.max() > _MAX_VALUE:
            raise _UnreadableError(
                f"a {name} with values from {values.min():g} to {values.max():g}, whose range is "
                "unknown; save it with 8 or 16 bits per channel"
            )
        return Image.fromarray(values.astype(np.uint16))
    bits = getattr(image, "tag_v2", {}).get(258, (8,))
    is_deep = max(np.ravel(bits)) > 8 and image.mode != "L"
    # Pillow keeps the upper half of 16 bits, of which 12 bits leave a few levels.
    if is_deep and np.asarray(image.convert("RGB")).max() < 64:
        raise _UnreadableError(
            f"a {name} of 16 bits per channel that uses the lowest only; save it with 8"
        )
    if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        return image
    return image.convert("RGBA" if "A" in image.getbands() or "a" in image.mode else "RGB")
