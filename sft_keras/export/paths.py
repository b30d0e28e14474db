"""The location of a run's SavedModel, and how to load it. Imports TensorFlow only to load."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError
from sft_keras.core.files import read_json, reading_run_file

EXPORT = "export"
VERSION = 1
SAVED_MODEL = f"{EXPORT}/{VERSION}"
"""Relative to the run folder. TensorFlow Serving expects one subfolder per version."""

_TEXT_OPERATIONS = "tensorflow_text"


def saved_model_path(run: str | Path) -> Path:
    """Return the folder of a run's SavedModel.

    Raises:
      RunFolderError: `run` contains no exported model.
    """
    folder = Path(run).expanduser() / SAVED_MODEL
    if not (folder / "saved_model.pb").is_file():
        raise RunFolderError(
            f"--run must be the folder of a finished run. Received: {str(run)!r}, which has no "
            f"{SAVED_MODEL}/saved_model.pb."
        )
    return folder


def load_exported(run: str | Path) -> Any:
    """Load a run's SavedModel, after importing the modules whose operations it uses.

    Example:

        from sft_keras.export.paths import load_exported

        predict = load_exported("runs/quickstart").signatures["serving_default"]

    Raises:
      RunFolderError: `run` contains no exported model, or its report is invalid.
    """
    folder, needs = saved_model_path(run), _required_modules(Path(run))
    import tensorflow as tf

    for module in needs:
        importlib.import_module(module)
    return tf.saved_model.load(str(folder))


def _required_modules(run: Path) -> list[str]:
    """Return the modules that the export needs besides TensorFlow, according to its report."""
    report = run.expanduser() / "report.json"
    if not report.is_file():
        return []
    with reading_run_file(report):
        needs = list(read_json(report)["export"].get("needs", []))
    unknown = [module for module in needs if module != _TEXT_OPERATIONS]
    if unknown:
        raise RunFolderError(
            f"An export may need only {_TEXT_OPERATIONS} besides TensorFlow. Received: {unknown} "
            f"in {report}, which has been modified."
        )
    return needs
