"""Parses the JSON of a request into arrays. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sft_keras.serving.errors import TOO_LARGE, RequestError
from sft_keras.serving.limits import Limits
from sft_keras.serving.request_values import Argument, is_object, listed, read_values, shown

DEFAULT_SIGNATURE = "serving_default"
_ROWS, _COLUMNS = "instances", "inputs"


@dataclasses.dataclass(frozen=True)
class Request:
    """A parsed request.

    Attributes:
      signature: The name of the signature to call.
      by_row: Whether the request has "instances" and the response "predictions" (row format);
        otherwise "inputs" and "outputs" (columnar format).
      values: The parsed JSON value of "instances" or "inputs".
    """

    signature: str
    by_row: bool
    values: Any = dataclasses.field(repr=False)


def read_request(body: bytes) -> Request:
    """Parse the body of a POST request.

    Raises:
      RequestError: The body is not a valid request in JSON.
    """
    try:
        parsed = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(f"The request must be UTF-8; byte {error.start} is not.") from error
    except json.JSONDecodeError as error:
        raise RequestError(f"JSON Parse error: {error}") from error
    except RecursionError as error:
        raise RequestError("JSON Parse error: lists or objects are nested too deeply.") from error
    except ValueError as error:  # a number with thousands of digits
        raise RequestError("JSON Parse error: a number is too long.") from error
    if not isinstance(parsed, dict):
        raise RequestError(f"The request must be a JSON object. Received: {shown(parsed)}.")
    signature = parsed.get("signature_name", "")
    if not isinstance(signature, str):
        raise RequestError(f"'signature_name' must be a string. Received: {shown(signature)}.")
    forms = [form for form in (_ROWS, _COLUMNS) if form in parsed]
    if not forms:
        raise RequestError("Missing 'inputs' or 'instances' key.")
    if len(forms) == 2:
        raise RequestError("The request must have only one of the keys 'inputs' and 'instances'.")
    (form,) = forms
    return Request(signature or DEFAULT_SIGNATURE, form == _ROWS, parsed[form])


def read_arrays(
    request: Request, arguments: Sequence[Argument], limits: Limits
) -> dict[str, np.ndarray]:
    """Return the values of each argument of a request.

    Args:
      request: The request, with any values.
      arguments: The arguments of its signature.
      limits: The limits on instances and texts.

    Returns:
      {argument: values}, all of the same length: strings as object [n] of bytes, numbers as
      float32 [n, ...].

    Raises:
      RequestError: A value is invalid. The message names its location.
    """
    columns = (_from_rows if request.by_row else _from_columns)(request.values, arguments)
    counts = {name: len(column) for name, column in columns.items()}
    count = max(counts.values())
    if len(set(counts.values())) > 1:
        raise RequestError(
            f"The lists in '{_COLUMNS}' must have the same length. Received: {counts}."
        )
    if not count:
        raise RequestError(f"No values in '{_ROWS if request.by_row else _COLUMNS}'.")
    if count > limits.instances:
        raise RequestError(
            f"A request may have at most {limits.instances} instances. Received: {count}. "
            "Send them in several requests.",
            TOO_LARGE,
        )
    arrays = {}
    for argument in arguments:
        locations = [
            value_location(request.by_row, argument, arguments, number) for number in range(count)
        ]
        arrays[argument.name] = read_values(columns[argument.name], locations, argument)
    _limit_texts(arrays, arguments, limits)
    return arrays


def _from_rows(rows: Any, arguments: Sequence[Argument]) -> dict[str, list[Any]]:
    if not isinstance(rows, list):
        raise RequestError(f"'{_ROWS}' must be a list. Received: {shown(rows)}.")
    names = {argument.name for argument in arguments}
    has_names = bool(rows) and is_object(rows[0])
    if rows and not has_names and len(names) > 1:
        raise RequestError(f"'{_ROWS}' must be a list of objects with {listed(names)}.")
    if not has_names:  # an object among them is rejected as a value
        return {arguments[0].name: rows}
    for number, row in enumerate(rows):
        if not is_object(row) or set(row) != names:
            raise RequestError(
                f"'{_ROWS}'[{number}] must be an object with only {listed(names)}. "
                f"Received: {shown(row)}."
            )
    return {name: [row[name] for row in rows] for name in names}


def _from_columns(inputs: Any, arguments: Sequence[Argument]) -> dict[str, list[Any]]:
    names = {argument.name for argument in arguments}
    if not is_object(inputs) and len(names) > 1:
        raise RequestError(f"'{_COLUMNS}' must be an object with {listed(names)}.")
    columns: dict[str, Any] = inputs if is_object(inputs) else {arguments[0].name: inputs}
    if set(columns) != names:
        raise RequestError(
            f"'{_COLUMNS}' must be an object with only {listed(names)}. "
            f"Received: {listed(columns)}."
        )
    for name, column in columns.items():
        if not isinstance(column, list):
            raise RequestError(
                f"'{_COLUMNS}' must contain a list for {name!r}. Received: {shown(column)}."
            )
    return columns


def _limit_texts(
    arrays: Mapping[str, np.ndarray], arguments: Sequence[Argument], limits: Limits
) -> None:
    texts = [arrays[argument.name] for argument in arguments if argument.kind == "text"]
    size = sum(len(text) for column in texts for text in column)
    if size > limits.text_bytes:
        raise RequestError(
            f"The texts of a request may have at most {limits.text_bytes} bytes. Received: {size}. "
            "Send them in several requests.",
            TOO_LARGE,
        )


def value_location(
    by_row: bool, argument: Argument, arguments: Sequence[Argument], number: int
) -> str:
    """Return the location of a value in the JSON of a request, e.g. "'instances'[0]"."""
    if by_row:
        return f"'{_ROWS}'[{number}]" + (f"['{argument.name}']" if len(arguments) > 1 else "")
    return f"'{_COLUMNS}'['{argument.name}'][{number}]"
