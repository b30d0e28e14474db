"""Warm-up requests, which a server runs before it accepts others, so that the first is not slow.

TensorFlow Serving reads them from the SavedModel. Its protocol buffers (`predict.proto`,
`model.proto` and `prediction_log.proto` of tensorflow_serving/apis) are encoded by hand here: they
are few and simple, and its package would add a dependency on gRPC to every installation.
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

# Field numbers.
_LOG_PREDICT = 6
_PREDICT_REQUEST = 1
_REQUEST_MODEL, _REQUEST_INPUTS = 1, 2
_MODEL_SIGNATURE = 3
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def warm_up_inputs(specs: Sequence[tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Return one synthetic example for a signature: a black image, or a short text.

    It contains no training data, because the exported model may go where the data may not.

    Args:
      specs: The specs of the arguments: strings [batch], which are encoded images if `is_binary`,
        or float32 of any shape.
    """
    return {spec.name: _example(spec) for spec in specs}


def write_warm_up(folder: Path, requests: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write the requests, {signature: {argument: values}}, into a SavedModel."""
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
    """Return an encoded PredictionLog with one request. The server fills in the model name."""
    request = _field(_REQUEST_MODEL, _field(_MODEL_SIGNATURE, signature.encode()))
    for name, values in inputs.items():
        tensor = tf.make_tensor_proto(values).SerializeToString()
        entry = _field(_ENTRY_KEY, name.encode()) + _field(_ENTRY_VALUE, tensor)
        request += _field(_REQUEST_INPUTS, entry)
    return _field(_LOG_PREDICT, _field(_PREDICT_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """Return an encoded length-delimited field: a string, bytes or a nested message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
