"""The SavedModel for serving, and the proof that it answers as the trained model does."""

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
from sft_keras.export import saved_model_probe
from sft_keras.export.isolated_process import run_alone
from sft_keras.export.warm_up import warm_up_inputs, write_warm_up
from sft_keras.tasks.signatures import ServingSignatures

CLASS_NAMES = "class_names.json"
_EXACT, _HALF = 1e-4, 5e-2  # bfloat16 has two digits, which a text padded otherwise changes


def largest_difference(model: keras.Model) -> float:
    """Return the largest allowed difference of a served output, in `ServingSignatures.unit`."""
    computes_in = {layer.compute_dtype for layer in iter_layers(model)}
    return _HALF if computes_in & {"bfloat16", "float16"} else _EXACT


def export_saved_model(signatures: ServingSignatures, model: keras.Model, folder: Path) -> None:
    """Writes a SavedModel with the given signatures, as TensorFlow Serving takes it.

    By TensorFlow's own function: `keras.export.ExportArchive` traces each of them twice. In it are
    `assets/class_names.json`, a list, where classes have names, and requests to warm up with.

    Raises:
      ExportError: If a signature does not answer its own request to warm up with.
    """
    served = tf.Module(name="served")
    served.parameters = [variable.value for variable in model.variables]
    served.tracked = list(signatures.tracked)
    concrete = {
        name: tf.function(function, input_signature=specs, autograph=False)
        for name, (function, specs) in signatures.functions.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        if signatures.class_names:
            names = Path(scratch, CLASS_NAMES)
            names.write_text(json.dumps(list(signatures.class_names)), encoding="utf-8")
            served.class_names = tf.saved_model.Asset(str(names))
        tf.saved_model.save(served, str(folder), signatures=concrete)
    write_warm_up(folder, _answered(concrete, signatures))


def _answered(
    concrete: Mapping[str, Any], signatures: ServingSignatures
) -> dict[str, dict[str, np.ndarray]]:
    """Returns requests to warm up with, which these functions have answered."""
    requests = {}
    for name, (_, specs) in signatures.functions.items():
        requests[name] = warm_up_inputs(specs)
        try:
            concrete[name](*map(tf.constant, requests[name].values()))
        except tf.errors.OpError as error:  # TensorFlow Serving would not load the model
            raise ExportError(
                f"The signature {name!r} must answer any input. Received: {error.message}"
            ) from error
    return requests


def check_saved_model(
    folder: Path,
    samples: Mapping[str, np.ndarray],
    expected: np.ndarray,
    needs: Sequence[str] = (),
    compared: str = "probabilities",
    largest: float = _EXACT,
) -> dict[str, Any]:
    """Loads the SavedModel in a fresh process that knows TensorFlow alone, and compares.

    Args:
      folder: The SavedModel.
      samples: Raw inputs for each signature by argument, the same examples for each, as `packed`.
      expected: What the trained model answers for them, [n, ...].
      needs: Modules to import there beside TensorFlow.
      compared: The output that it is compared with.
      largest: Difference that may be.

    Returns:
      {"largest_difference": over all signatures and examples, "checked": n}.

    Raises:
      ExportError: If it does not load, or an answer differs by over `largest`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        np.savez(inputs, **samples)
        paths = map(str, (folder, inputs, outputs))
        about = f"The exported model in {folder}, with TensorFlow alone,"
        run_alone(saved_model_probe.__file__, *paths, compared, *needs, about=about)
        with np.load(outputs) as answers:
            differences = {name: float(np.abs(answers[name] - expected).max()) for name in answers}
    worst = max(differences.values())
    if not worst <= largest:
        raise ExportError(
            f"The exported model does not answer as the trained one. Expected {compared} within "
            f"{largest:g}; received differences of {json.dumps(differences)}. "
            f"Do not serve {folder}."
        )
    return {"largest_difference": worst, "checked": len(expected)}
