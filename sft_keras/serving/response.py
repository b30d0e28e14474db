"""From arrays to the JSON of an answer. Does not import TensorFlow."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.serving.errors import RequestError
from sft_keras.tasks.signatures import is_binary


def write_answer(outputs: Mapping[str, np.ndarray], by_row: bool, count: int) -> bytes:
    """Returns the body of an answer.

    One output is written bare, several as objects. Strings are UTF-8; where they are not, or the
    name of an output ends in "_bytes", they are {"b64": ...}.

    Args:
      outputs: What the signature answers.
      by_row: Whether it is "predictions", a row for each instance, or "outputs".
      count: Of instances.

    Raises:
      RequestError: If an output has not one row for each instance, and rows are asked for.
    """
    if by_row:
        for name, values in outputs.items():
            if values.shape[:1] != (count,):
                raise RequestError(
                    f"The output {name!r} has not one row for each of the {count} instances, so "
                    f"there is no answer in rows. Ask with 'inputs' in place of 'instances'."
                )
    plain = {name: _plain(values, name) for name, values in outputs.items()}
    if len(plain) == 1:
        (answer,) = plain.values()
    elif by_row:
        answer = [dict(zip(plain, row)) for row in zip(*plain.values())]
    else:
        answer = plain
    answer = {"predictions" if by_row else "outputs": answer}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def write_error(message: str) -> bytes:
    """Returns the body of an answer that says what is wrong."""
    return json.dumps({"error": message}).encode()


def _plain(values: np.ndarray, name: str) -> Any:
    if values.dtype != object:
        return values.tolist()
    flat = np.empty(values.size, dtype=object)
    flat[:] = [_string(each, is_binary(name)) for each in values.ravel()]
    return flat.reshape(values.shape).tolist()


def _string(value: bytes, is_binary: bool) -> str | dict[str, str]:
    if not is_binary:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode("ascii")}
