"""The values of a request, each by itself: from JSON to bytes and numbers."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_keras.serving.errors import RequestError

_SHOWN = 60  # characters


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument of a signature.

    Attributes:
      name: As requests name it.
      kind: "text" (UTF-8), "binary" or "float32".
      shape: Of one instance; None for a side of any length.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...] = ()


def read_values(values: Sequence[Any], places: Sequence[str], argument: Argument) -> np.ndarray:
    """Returns the values of an argument.

    Args:
      values: As JSON has them, one for each instance.
      places: What to call each of them.
      argument: Which they are of.

    Returns:
      Strings as bytes, object [n]; numbers as float32 [n, ...].

    Raises:
      RequestError: If one does not fit.
    """
    if argument.kind == "float32":
        return _numbers(values, places, argument)
    read = np.empty(len(values), dtype=object)
    for number, (value, place) in enumerate(zip(values, places)):
        read[number] = _binary(value, place) if argument.kind == "binary" else _text(value, place)
    return read


def is_object(value: Any) -> bool:
    """Returns whether a value is an object, and not the base64 of one."""
    return isinstance(value, dict) and not _is_base64(value)


def shown(value: Any) -> str:
    """Returns a value in a few words."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {listed(value)}"
    words = json.dumps(value)
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def listed(names: Any) -> str:
    """Returns some names in a few words."""
    words = ", ".join(repr(name) for name in sorted(names)) or "nothing"
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def _text(value: Any, place: str) -> bytes:
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
    elif _is_base64(value):
        encoded = _decoded(value["b64"], place)
    else:
        raise RequestError(f"{place} must be a string. Received: {shown(value)}.")
    try:
        encoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{place} must be UTF-8; byte {error.start} is not.") from error
    return encoded


def _binary(value: Any, place: str) -> bytes:
    if not _is_base64(value):
        raise RequestError(
            f'{place} must be {{"b64": "..."}}, bytes in base64. Received: {shown(value)}.'
        )
    return _decoded(value["b64"], place)


def _decoded(encoded: str, place: str) -> bytes:
    # TensorFlow Serving takes white space, and base64 without padding, too.
    dense = "".join(encoded.split()).rstrip("=")
    try:
        return base64.b64decode(dense + "=" * (-len(dense) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{place} is not base64: {error}.") from error


def _numbers(values: Sequence[Any], places: Sequence[str], argument: Argument) -> np.ndarray:
    read = [_array(value, place, argument) for value, place in zip(values, places)]
    for place, array in zip(places, read):
        if array.shape != read[0].shape:
            raise RequestError(
                f"{place} must be of the shape of the first, {_sides(read[0].shape)}. Received: "
                f"{_sides(array.shape)}. Send those of another shape in a request of their own."
            )
    return np.stack(read)


def _array(value: Any, place: str, argument: Argument) -> np.ndarray:
    expected = f"{place} must be numbers of the shape {_sides(argument.shape)}"
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{expected}. Received: lists of unequal lengths.") from error
    fits = array.ndim == len(argument.shape) and all(
        side and wanted in (None, side) for side, wanted in zip(array.shape, argument.shape)
    )
    if not fits:
        raise RequestError(f"{expected}. Received: {_sides(array.shape)}.")
    if array.dtype.kind not in "iuf":
        raise RequestError(f"{expected}. Received: what are not all numbers.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise RequestError(f"{expected}, finite as float32. Received: some that are not.")
    return array


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _sides(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if side is None else str(side) for side in shape)}]"
