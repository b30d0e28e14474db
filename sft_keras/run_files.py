"""Reading what a run left behind, which somebody may have damaged. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_keras.errors import RunFolderError


@contextlib.contextmanager
def as_the_run_wrote(path: Path) -> Iterator[None]:
    """Within it, a file of a run is read, and what it must say is taken out of it.

    Raises:
      RunFolderError: If it cannot be read, or does not say it.
    """
    try:
        yield
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} must be as the run wrote it. It cannot be read: {type(error).__name__} "
            f"{error}. Copy it anew from where it ran."
        ) from error


def read_json(path: Path) -> Any:
    """Returns what a JSON file of a run holds.

    Raises:
      RunFolderError: If it cannot be read.
    """
    with as_the_run_wrote(path):
        return json.loads(path.read_text(encoding="utf-8"))
