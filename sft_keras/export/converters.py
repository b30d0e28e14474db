"""Conversion of a trained model, without its preprocessing, to LiteRT and ONNX.

TensorFlow's LiteRT converter uses only operations that are built into the interpreter, or fails.
`keras.Model.export` would also allow TensorFlow operations, which that interpreter lacks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.core.errors import ExportError
from sft_keras.export.formats import PART
from sft_keras.export.saved_model import export_saved_model
from sft_keras.tasks.signatures import ServingSignatures

IMAGES = "images"
PROBABILITIES = "probabilities"
SIGNATURE = "serving_default"
_ERROR_LENGTH = 1000  # characters; converters may append the whole model


def write_litert(model: keras.Model, path: Path) -> None:
    """Write the model as a float32 LiteRT file that accepts any batch size.

    Raises:
      ExportError: An operation of the model has no built-in counterpart.
    """
    _write_litert(model, path, tf.lite.OpsSet.TFLITE_BUILTINS, None)


def write_litert_int8(
    model: keras.Model, path: Path, samples: Sequence[dict[str, np.ndarray]]
) -> None:
    """Write the model as a fully quantized LiteRT file.

    Weights and activations are int8; the input pixels and the output probabilities are uint8.

    Args:
      model: The trained model.
      path: The file to write.
      samples: Inputs of one example each. Their activations calibrate the scales.

    Raises:
      ExportError: An operation of the model has no quantized counterpart.
    """
    samples = [dict(sample) for sample in samples]
    if IMAGES in samples[0]:
        # With both extremes present the input scale is 1, and the file takes pixels unchanged.
        first = samples[0][IMAGES].astype(np.float32)
        first[0, 0, 0], first[0, -1, -1] = 0, 255
        samples[0][IMAGES] = first
    _write_litert(model, path, tf.lite.OpsSet.TFLITE_BUILTINS_INT8, samples)


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write the model as a float32 ONNX file that accepts any batch size.

    Raises:
      ExportError: An operation of the model has no ONNX counterpart.
    """
    import tf2onnx

    function, specs = model_only_signatures(model).functions[SIGNATURE]
    traced = tf.function(function, input_signature=specs, autograph=False)
    try:
        tf2onnx.convert.from_function(traced, input_signature=specs, output_path=str(path))
    except Exception as error:  # tf2onnx raises many types, none of which is public
        raise _conversion_error(path, "tf2onnx", error) from error


def model_only_signatures(model: keras.Model) -> ServingSignatures:
    """Return the single signature of files that contain no preprocessing.

    Its inputs are either `images`, float32 [batch, height, width, 3] in 0..255 of the model's
    input size, or token tensors by name, int32 [batch, tokens]. Its output is `probabilities`,
    float32 [batch, num_classes] or [batch, tokens, tags].
    """
    model_input = model.input
    inputs = named_inputs(model_input)
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in inputs.items()]

    def predict(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        x = dict(zip(inputs, tensors)) if isinstance(model_input, Mapping) else tensors[0]
        return {PROBABILITIES: model(x, training=False)}

    return ServingSignatures({SIGNATURE: (predict, specs)})


def named_inputs(x: Any) -> dict[str, tf.Tensor]:
    """Return the inputs of a batch by the names that they have in exported files."""
    return dict(x) if isinstance(x, Mapping) else {IMAGES: x}


def _write_litert(
    model: keras.Model,
    path: Path,
    operations: tf.lite.OpsSet,
    samples: Sequence[dict[str, np.ndarray]] | None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export_saved_model(model_only_signatures(model), model, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [operations]
        if samples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: iter(samples)
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.uint8
        try:
            flatbuffer = converter.convert()
        except Exception as error:  # the converter raises many types, none of which is public
            raise _conversion_error(path, "The LiteRT converter", error) from error
    path.write_bytes(flatbuffer)


def _conversion_error(path: Path, converter: str, error: Exception) -> ExportError:
    return ExportError(
        f"The model cannot be converted to {path.name.removeprefix(PART)}. {converter} failed "
        f"with: {str(error)[:_ERROR_LENGTH]}"
    )
