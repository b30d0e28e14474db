"""A model as a file for LiteRT, in float32 or in integers alone.

By TensorFlow's converter, which makes them of operations that the interpreter itself has, or fails.
`keras.Model.export` would let in those of TensorFlow too, which that interpreter has not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from sft_keras.core.errors import ExportError
from sft_keras.export.formats import PART
from sft_keras.export.model_only import PIXELS, SIGNATURE, model_only_signatures
from sft_keras.export.saved_model import export_saved_model

_SHOWN = 1000  # characters; behind them the whole model may follow


def write_litert(model: keras.Model, path: Path) -> None:
    """Writes the model in float32; it takes batches of any size.

    Raises:
      ExportError: If an operation of the model has no counterpart.
    """
    _convert(model, path, tf.lite.OpsSet.TFLITE_BUILTINS, None)


def write_litert_int8(
    model: keras.Model, path: Path, samples: Sequence[dict[str, np.ndarray]]
) -> None:
    """Writes the model in integers alone: weights int8, activations int8, pixels in and
    probabilities out uint8.

    Args:
      model: The trained model.
      path: Where to write.
      samples: Inputs of one example each, from whose activations the scales are found.

    Raises:
      ExportError: If an operation of the model has no counterpart in integers.
    """
    samples = [dict(each) for each in samples]
    if PIXELS in samples[0]:
        # So that the scale of the input is 1, and the file takes pixels as they are.
        first = samples[0][PIXELS].astype(np.float32)
        first[0, 0, 0], first[0, -1, -1] = 0, 255
        samples[0][PIXELS] = first
    _convert(model, path, tf.lite.OpsSet.TFLITE_BUILTINS_INT8, samples)


def _convert(
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
            made = converter.convert()
        except Exception as error:  # of many kinds, none of which is public
            raise ExportError(
                f"The model cannot be converted to {path.name.removeprefix(PART)}. The converter "
                f"says: {str(error)[:_SHOWN]}"
            ) from error
    path.write_bytes(made)
