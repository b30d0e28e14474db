"""A model as a file for ONNX Runtime and others that read ONNX."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from sft_keras.core.errors import ExportError
from sft_keras.export.formats import PART
from sft_keras.export.model_only import SIGNATURE, model_only_signatures

_SHOWN = 1000  # characters; behind them the whole model may follow


def write_onnx(model: keras.Model, path: Path) -> None:
    """Writes the model in float32; it takes batches of any size.

    Raises:
      ExportError: If an operation of the model has no counterpart.
    """
    import tf2onnx

    function, specs = model_only_signatures(model).functions[SIGNATURE]
    traced = tf.function(function, input_signature=specs, autograph=False)
    try:
        tf2onnx.convert.from_function(traced, input_signature=specs, output_path=str(path))
    except Exception as error:  # of many kinds, none of which is public
        raise ExportError(
            f"The model cannot be converted to {path.name.removeprefix(PART)}. tf2onnx says: "
            f"{str(error)[:_SHOWN]}"
        ) from error
