"""A file of this package, run by itself: with no checkout on its path, as a stranger would."""

from __future__ import annotations

import os
import subprocess
import sys

from sft_keras.core.errors import ExportError

_SHOWN = 2000  # characters


def run_alone(file: str, *arguments: str, about: str) -> None:
    """Runs a Python file by itself, with no checkout on its path.

    Args:
      file: The path.
      arguments: Of its command line.
      about: What it looks at, and with what, for the message.

    Raises:
      ExportError: If it fails.
    """
    ran = subprocess.run(
        [sys.executable, "-I", file, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    if ran.returncode != 0:
        raise ExportError(
            f"{about} could not be loaded and asked in a fresh process. What it said last:\n"
            f"{ran.stderr[-_SHOWN:]}"
        )
