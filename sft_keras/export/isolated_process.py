"""Runs a file of this package in an isolated Python process, without the package on its path."""

from __future__ import annotations

import os
import subprocess
import sys

from sft_keras.core.errors import ExportError

_ERROR_LENGTH = 2000  # characters


def run_isolated(file: str, *arguments: str, subject: str) -> None:
    """Run a Python file in isolated mode (`python -I`), as on a machine without this checkout.

    Args:
      file: The path of the Python file.
      arguments: Its command-line arguments.
      subject: What the file loads, for the error message, e.g. "The exported model in export/1".

    Raises:
      ExportError: The process failed.
    """
    completed = subprocess.run(
        [sys.executable, "-I", file, *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # libraries print in whatever encoding the system has
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    if completed.returncode != 0:
        raise ExportError(
            f"{subject} could not be loaded and run in a fresh process. The end of its output:\n"
            f"{completed.stderr[-_ERROR_LENGTH:]}"
        )
