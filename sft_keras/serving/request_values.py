"""Parses the individual values of a request: from JSON to bytes and numbers."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_keras.serving.errors import RequestError

_MAX_LENGTH = 60  # characters


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a signature.

    Attributes:
      name: The name in requests.
      kind: "text" (UTF-8), "binary" or "float32".
      shape: The shape of one instance; None for a dimension of any size.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...] = ()


def read_values(values: Sequence[Any], locations: Sequence[str], argument: Argument) -> np.ndarray:
    """Return the values of an argument as an array.

    Args:
      values: Parsed JSON values, one per instance.
      locations: The location of each value in the request, for error messages.
      argument: The argument that they belong to.

    Returns:
      Strings as object [n] of bytes, numbers as float32 [n, ...].

    Raises:
      RequestError: A value is invalid.
    """
    if argument.kind == "float32":
        return _numbers(values, locations, argument)
    parse = _binary if argument.kind == "binary" else _text
    parsed = np.empty(len(values), dtype=object)
    for number, (value, location) in enumerate(zip(values, locations)):
        parsed[number] = parse(value, location)
    return parsed


def is_object(value: Any) -> bool:
    """Return whether a value is a JSON object other than {"b64": ...}."""
    return isinstance(value, dict) and not _is_base64(value)


def shown(value: Any) -> str:
    """Return a short description of a value."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {listed(value)}"
    words = json.dumps(value)
    return words if len(words) <= _MAX_LENGTH else f"{words[:_MAX_LENGTH]}..."


def listed(names: Any) -> str:
    """Return a short list of names."""
    words = ", ".join(repr(name) for name in sorted(names)) or "nothing"
    return words if len(words) <= _MAX_LENGTH else f"{words[:_MAX_LENGTH]}..."


def _text(value: Any, location: str) -> bytes:
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
    elif _is_base64(value):
        encoded = _decode_base64(value["b64"], location)
    else:
        raise RequestError(f"{location} must be a string. Received: {shown(value)}.")
    try:
        encoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{location} must be UTF-8; byte {error.start} is not.") from error
    return encoded


def _binary(value: Any, location: str) -> bytes:
    if not _is_base64(value):
        raise RequestError(
            f'{location} must be {{"b64": "..."}}, bytes in base64. Received: {shown(value)}.'
        )
    return _decode_base64(value["b64"], location)


def _decode_base64(encoded: str, location: str) -> bytes:
    # TensorFlow Serving accepts white space, and base64 without padding, too.
    dense = "".join(encoded.split()).rstrip("=")
    try:
        return base64.b64decode(dense + "=" * (-len(dense) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{location} is not base64: {error}.") from error


def _numbers(values: Sequence[Any], locations: Sequence[str], argument: Argument) -> np.ndarray:
    arrays = [_array(value, location, argument) for value, location in zip(values, locations)]
    for location, array in zip(locations, arrays):
        if array.shape != arrays[0].shape:
            raise RequestError(
                f"{location} must have the shape of the first, {_shape_text(arrays[0].shape)}. "
                f"Received: {_shape_text(array.shape)}. Send other shapes in separate requests."
            )
    return np.stack(arrays)


def _array(value: Any, location: str, argument: Argument) -> np.ndarray:
    expected = f"{location} must be numbers of the shape {_shape_text(argument.shape)}"
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{expected}. Received: lists of unequal lengths.") from error
    fits = array.ndim == len(argument.shape) and all(
        size and expected_size in (None, size)
        for size, expected_size in zip(array.shape, argument.shape)
    )
    if not fits:
        raise RequestError(f"{expected}. Received: {_shape_text(array.shape)}.")
    if array.dtype.kind not in "iuf":
        raise RequestError(f"{expected}. Received: values that are not all numbers.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise RequestError(f"{expected}, finite as float32. Received: NaN or infinite values.")
    return array


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _shape_text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
