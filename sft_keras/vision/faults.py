"""Why one image file cannot be decoded, in words."""

from __future__ import annotations

import re

import tensorflow as tf

from sft_keras.vision.decode import decode_image
from sft_keras.vision.image_size import LARGEST_IMAGE

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
}
_WEBP_ANIMATED = 0b10  # a flag in the VP8X chunk, RFC 9649, section 2.7


def undecodable_reason(encoded: bytes) -> str | None:
    """Returns what is wrong with a file's bytes as an image, or None if they can be decoded."""
    try:
        decode_image(tf.constant(encoded))
    except tf.errors.InvalidArgumentError as error:
        return _reason(encoded, first_line(error))
    return None


def _reason(encoded: bytes, message: str) -> str:
    kind = next((name for start, name in _STARTS.items() if encoded.startswith(start)), None)
    if not encoded:
        return "empty, 0 bytes"
    if "pixels are too many" in message:
        return f"a {kind} of more than {LARGEST_IMAGE:,} pixels; scale it down"
    if kind is None:
        return "not an image: neither JPEG, PNG, GIF, BMP nor WebP"
    if kind == "WebP" and encoded[12:16] == b"VP8X" and encoded[20] & _WEBP_ANIMATED:
        return "an animated WebP, which cannot be decoded; save one frame of it"
    bits = int.from_bytes(encoded[28:30], "little")
    if kind == "BMP" and bits in (1, 4, 16):
        return f"a BMP of {bits} bits a pixel, which cannot be decoded; save it as PNG"
    return f"a damaged or truncated {kind} ({message})"


def first_line(error: tf.errors.OpError) -> str:
    """Returns what TensorFlow says went wrong, without the names of its nodes and operations."""
    words = r"\{\{.*?\}\}\s*|\s*\[Op:.*?\]|\s*name:\s*$"
    return re.sub(words, "", error.message).strip().partition("\n")[0]
