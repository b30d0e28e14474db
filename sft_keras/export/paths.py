"""Where a run's exported model lies, and how it is loaded. Does not import TensorFlow itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError
from sft_keras.core.files import read_json, reading_run_file

EXPORT = "export"
VERSION = 1
SAVED_MODEL = f"{EXPORT}/{VERSION}"
"""In the run folder. TensorFlow Serving wants a folder that holds one for each version."""

_TEXT_OPERATIONS = "tensorflow_text"


def saved_model_of(run: str | Path) -> Path:
    """Returns the folder of a run's SavedModel.

    Raises:
      RunFolderError: If `run` holds no exported model.
    """
    folder = Path(run).expanduser() / SAVED_MODEL
    if not (folder / "saved_model.pb").is_file():
        raise RunFolderError(
            f"--run must be the folder of a finished run. Received: {str(run)!r}, which holds no "
            f"{SAVED_MODEL}/saved_model.pb."
        )
    return folder


def load_exported(run: str | Path) -> Any:
    """Loads a run's SavedModel, after the modules that it needs beside TensorFlow.

    Raises:
      RunFolderError: If `run` holds no exported model, or its report is not as it was written.
    """
    folder, needs = saved_model_of(run), _needs(Path(run))
    import tensorflow as tf

    for module in needs:
        importlib.import_module(module)
    return tf.saved_model.load(str(folder))


def _needs(run: Path) -> list[str]:
    """Returns the modules that the export needs beside TensorFlow, as its report says."""
    report = run.expanduser() / "report.json"
    if not report.is_file():
        return []
    with reading_run_file(report):
        needs = list(read_json(report)["export"].get("needs", []))
    unknown = [each for each in needs if each != _TEXT_OPERATIONS]
    if unknown:
        raise RunFolderError(
            f"A run's export may need {_TEXT_OPERATIONS} and nothing else. Received: {unknown} in "
            f"{report}, which somebody has changed."
        )
    return needs
