"""Writes the SavedModel for serving, and verifies it against the trained model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.backbones.layers import iter_layers
from sft_keras.core.errors import ExportError
from sft_keras.export import isolated_process, saved_model_probe
from sft_keras.export.task_file import TASK, task_json
from sft_keras.export.warm_up import warm_up_inputs, write_warm_up
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.tasks.signatures import ServingSignatures

CLASS_NAMES = "class_names.json"
_FLOAT32_TOLERANCE = 1e-4
_HALF_TOLERANCE = 5e-2  # bfloat16 has two digits, which different padding of a text changes


def output_tolerance(model: keras.Model) -> float:
    """Return the largest allowed difference of a served output, in `ServingSignatures.unit`."""
    dtypes = {layer.compute_dtype for layer in iter_layers(model)}
    return _HALF_TOLERANCE if dtypes & {"bfloat16", "float16"} else _FLOAT32_TOLERANCE


def export_saved_model(
    signatures: ServingSignatures,
    model: keras.Model,
    folder: Path,
    config: TaskConfig | None = None,
) -> None:
    """Write a SavedModel with these signatures, in the layout of TensorFlow Serving.

    This uses `tf.saved_model.save`, since `keras.export.ExportArchive` traces every function
    twice. The SavedModel contains `assets/task.json`, the task; `assets/class_names.json`, a list,
    if the classes have names; and warm-up requests.

    Args:
      signatures: The functions to serve.
      model: The model that they call.
      folder: The folder of the SavedModel, e.g. ".../export/1".
      config: The task, by which front ends decode the outputs; None for a model without one.

    Raises:
      ExportError: A signature fails on its own warm-up request.
    """
    served = tf.Module(name="served")
    served.parameters = [variable.value for variable in model.variables]
    served.tracked = list(signatures.tracked)
    concrete = {
        name: tf.function(function, input_signature=specs, autograph=False)
        for name, (function, specs) in signatures.functions.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        if config is not None:
            _, specs = signatures.functions["serving_default"]
            task = Path(scratch, TASK)
            task.write_text(task_json(config, [spec.name for spec in specs]), encoding="utf-8")
            served.task = tf.saved_model.Asset(str(task))
        if signatures.class_names:
            names = Path(scratch, CLASS_NAMES)
            names.write_text(json.dumps(list(signatures.class_names)), encoding="utf-8")
            served.class_names = tf.saved_model.Asset(str(names))
        tf.saved_model.save(served, str(folder), signatures=concrete)
    write_warm_up(folder, _checked_warm_up(concrete, signatures))


def _checked_warm_up(
    concrete: Mapping[str, Any], signatures: ServingSignatures
) -> dict[str, dict[str, np.ndarray]]:
    """Return the warm-up requests, after the functions have run on them."""
    requests = {}
    for name, (_, specs) in signatures.functions.items():
        requests[name] = warm_up_inputs(specs)
        try:
            concrete[name](*map(tf.constant, requests[name].values()))
        except tf.errors.OpError as error:  # TensorFlow Serving would refuse to load the model
            raise ExportError(
                f"The signature {name!r} must accept any input. It failed with: {error.message}"
            ) from error
    return requests


def check_saved_model(
    folder: Path,
    samples: Mapping[str, Any],
    expected: np.ndarray,
    needs: Sequence[str] = (),
    output: str = "probabilities",
    tolerance: float = _FLOAT32_TOLERANCE,
) -> dict[str, Any]:
    """Run the SavedModel in a fresh process with only TensorFlow, and compare its outputs.

    Args:
      folder: The SavedModel.
      samples: Raw inputs of every signature, encoded by `packed`; the same examples for each.
      expected: The trained model's outputs for them, [n, ...].
      needs: Modules to import besides TensorFlow.
      output: The output to compare.
      tolerance: The largest allowed difference.

    Returns:
      {"largest_difference": over all signatures and examples, "checked": n}.

    Raises:
      ExportError: It cannot be loaded, or an output differs by more than `tolerance`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        np.savez(inputs, **samples)
        paths = map(str, (folder, inputs, outputs))
        subject = f"The exported model in {folder}, with only TensorFlow,"
        isolated_process.run_isolated(
            saved_model_probe.__file__, *paths, output, *needs, subject=subject
        )
        with np.load(outputs) as served:
            differences = {name: float(np.abs(served[name] - expected).max()) for name in served}
    worst = max(differences.values())
    if not worst <= tolerance:
        raise ExportError(
            f"The exported model differs from the trained model. Expected: {output} within "
            f"{tolerance:g}. Received: differences of {json.dumps(differences)}. "
            f"Do not serve {folder}."
        )
    return {"largest_difference": worst, "checked": len(expected)}
