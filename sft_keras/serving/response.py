"""Encodes outputs as the JSON of a response. Does not import TensorFlow."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.serving.errors import RequestError
from sft_keras.tasks.signatures import is_binary


def write_predictions(outputs: Mapping[str, np.ndarray], by_row: bool, count: int) -> bytes:
    """Return the body of a response.

    A single output is written without its name, several as objects. Strings that are not valid
    UTF-8, and outputs whose name ends in "_bytes", are written as {"b64": ...}.

    Args:
      outputs: The outputs of the signature.
      by_row: Whether to write "predictions", one row per instance, or "outputs".
      count: The number of instances.

    Raises:
      RequestError: `by_row`, but an output does not have one row per instance.
    """
    if by_row:
        for name, values in outputs.items():
            if values.shape[:1] != (count,):
                raise RequestError(
                    f"The output {name!r} does not have one row for each of the {count} instances, "
                    f"so it cannot be returned in row format. Send 'inputs' instead of 'instances'."
                )
    plain = {name: _plain(values, name) for name, values in outputs.items()}
    if len(plain) == 1:
        (result,) = plain.values()
    elif by_row:
        result = [dict(zip(plain, row)) for row in zip(*plain.values())]
    else:
        result = plain
    response = {"predictions" if by_row else "outputs": result}
    return json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()


def write_error(message: str) -> bytes:
    """Return the body of an error response."""
    return json.dumps({"error": message}).encode()


def _plain(values: np.ndarray, name: str) -> Any:
    if values.dtype != object:
        return values.tolist()
    flat = np.empty(values.size, dtype=object)
    flat[:] = [_string(value, is_binary(name)) for value in values.ravel()]
    return flat.reshape(values.shape).tolist()


def _string(value: bytes, is_binary: bool) -> str | dict[str, str]:
    if not is_binary:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode("ascii")}
