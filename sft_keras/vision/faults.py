"""Explain why an image file cannot be decoded."""

from __future__ import annotations

import re

import tensorflow as tf

from sft_keras.vision.conversion import image_format, is_convertible, to_png
from sft_keras.vision.decode import decode_image
from sft_keras.vision.image_size import MAX_PIXELS

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
}
_WEBP_ANIMATED = 0b10  # a flag in the VP8X chunk, RFC 9649, section 2.7


def undecodable_reason(encoded: bytes) -> str | None:
    """Return why a file's bytes cannot be decoded by the exported model, or None if they can."""
    if is_convertible(encoded):
        try:
            to_png(encoded)
        except ValueError as error:
            return str(error)
        return f"a {image_format(encoded)}, which TensorFlow cannot decode; save it as PNG or JPEG"
    try:
        decode_image(tf.constant(encoded))
    except tf.errors.InvalidArgumentError as error:
        return _explain(encoded, first_line(error))
    return None


def _explain(encoded: bytes, message: str) -> str:
    kind = next((name for start, name in _SIGNATURES.items() if encoded.startswith(start)), None)
    if not encoded:
        return "empty, 0 bytes"
    if "pixels are too many" in message:
        return f"a {kind} of more than {MAX_PIXELS:,} pixels; scale it down"
    if kind is None:
        return "not an image: neither JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC nor AVIF"
    if kind == "WebP" and encoded[12:16] == b"VP8X" and encoded[20] & _WEBP_ANIMATED:
        return "an animated WebP, which is not supported; save a single frame"
    bits = int.from_bytes(encoded[28:30], "little")
    if kind == "BMP" and bits in (1, 4, 16):
        return f"a BMP of {bits} bits per pixel, which is not supported; save it as PNG"
    return f"a damaged or truncated {kind} ({message})"


def first_line(error: tf.errors.OpError) -> str:
    """Return the first line of a TensorFlow error, without the names of nodes and operations."""
    node_names = r"\{\{.*?\}\}\s*|\s*\[Op:.*?\]|\s*name:\s*$"
    return re.sub(node_names, "", error.message).strip().partition("\n")[0]
