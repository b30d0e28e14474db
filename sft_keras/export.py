"""The SavedModel for serving, and the proof that it answers as the trained model does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras import serving_check
from sft_keras.endpoints import Endpoints
from sft_keras.errors import ExportError

LARGEST_DIFFERENCE = 1e-4
"""By how much what is served may differ from the trained model's, in `Endpoints.unit`."""


def export_saved_model(endpoints: Endpoints, model: keras.Model, folder: Path) -> None:
    """Writes a SavedModel with the given signatures.

    By TensorFlow's own function: `keras.export.ExportArchive` traces each of them twice.
    """
    served = tf.Module(name="served")
    served.parameters = [variable.value for variable in model.variables]
    served.tracked = list(endpoints.tracked)
    signatures = {
        name: tf.function(function, input_signature=specs, autograph=False)
        for name, (function, specs) in endpoints.signatures.items()
    }
    tf.saved_model.save(served, str(folder), signatures=signatures)


def check_saved_model(
    folder: Path,
    samples: Mapping[str, np.ndarray],
    expected: np.ndarray,
    needs: Sequence[str] = (),
    compared: str = "probabilities",
    unit: float = 1.0,
) -> dict[str, Any]:
    """Loads the SavedModel in a fresh process that knows TensorFlow alone, and compares.

    Args:
      folder: The SavedModel.
      samples: Raw inputs for each signature by argument, the same examples for each, as `packed`.
      expected: What the trained model answers for them, [n, ...].
      needs: Modules to import there beside TensorFlow.
      compared: The output that it is compared with.
      unit: What differences are measured in.

    Returns:
      {"largest_difference": over all signatures and examples, "checked": n}.

    Raises:
      ExportError: If it does not load, or an answer differs by over `LARGEST_DIFFERENCE` units.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        np.savez(inputs, **samples)
        paths = map(str, (folder, inputs, outputs))
        ran = subprocess.run(
            # -I: nothing of this environment but its site-packages, so no checkout on the path.
            [sys.executable, "-I", serving_check.__file__, *paths, compared, *needs],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            check=False,
        )
        if ran.returncode != 0:
            raise ExportError(
                f"The exported model in {folder} could not be loaded and asked in a fresh process "
                f"with TensorFlow alone. What it said last:\n{ran.stderr[-2000:]}"
            )
        with np.load(outputs) as answers:
            differences = {name: float(np.abs(answers[name] - expected).max()) for name in answers}
    worst = max(differences.values())
    if not worst <= LARGEST_DIFFERENCE * unit:
        raise ExportError(
            f"The exported model does not answer as the trained one. Expected {compared} within "
            f"{LARGEST_DIFFERENCE * unit:g}; received differences of {json.dumps(differences)}. "
            f"Do not serve {folder}."
        )
    return {"largest_difference": worst, "checked": len(expected)}
