"""Requests that a server answers once before it takes others, so that no user waits for the first.

TensorFlow Serving reads them from the SavedModel. Its messages, from `predict.proto`, `model.proto`
and `prediction_log.proto` of tensorflow_serving/apis, are written here by hand: they are few and
simple, and its package would bring gRPC into every installation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from sft_keras.tasks.signatures import is_binary

WARM_UP = "assets.extra/tf_serving_warmup_requests"
_SIDE = 32  # pixels
_TEXT = b"A short text."

# Numbers of the fields.
_LOG_PREDICT = 6
_PREDICT_REQUEST = 1
_REQUEST_MODEL, _REQUEST_INPUTS = 1, 2
_MODEL_SIGNATURE = 3
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def warm_up_inputs(specs: Sequence[tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Returns one example for a signature: a black image, or a short text.

    Nobody's data is in it, since the exported model goes where the data may not.

    Args:
      specs: Of its arguments, strings [batch], which are images if `is_binary`, or float32 of any
        shape.
    """
    return {spec.name: _example(spec) for spec in specs}


def write_warm_up(folder: Path, requests: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes the requests, {signature: {argument: values}}, into a SavedModel."""
    file = folder / WARM_UP
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in requests.items():
            writer.write(_prediction_log(signature, inputs))


def _example(spec: tf.TensorSpec) -> np.ndarray:
    if spec.dtype != tf.string:
        shape = [1, *(_SIDE if side is None else side for side in spec.shape[1:])]
        return np.zeros(shape, spec.dtype.as_numpy_dtype)
    if is_binary(spec.name):
        black = tf.zeros([_SIDE, _SIDE, 3], tf.uint8)
        return np.array([tf.io.encode_png(black).numpy()], dtype=object)
    return np.array([_TEXT], dtype=object)


def _prediction_log(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Returns a PredictionLog with a request. The name of the model is the server's to give."""
    request = _field(_REQUEST_MODEL, _field(_MODEL_SIGNATURE, signature.encode()))
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values).SerializeToString()
        entry = _field(_ENTRY_KEY, name.encode()) + _field(_ENTRY_VALUE, tensor)
        request += _field(_REQUEST_INPUTS, entry)
    return _field(_LOG_PREDICT, _field(_PREDICT_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a message, whose content has a length: a text, bytes or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
