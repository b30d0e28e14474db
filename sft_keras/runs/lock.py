"""The lock of a run folder: one process at a time. Does not import TensorFlow or NumPy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sft_keras.core.errors import RunFolderError

CHECKPOINTS = "checkpoints"
"""Folder of checkpoints and lock in a run folder; deleted when the run has finished."""
_LOCK = "lock"


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Lock a run folder within the block.

    The operating system releases the lock of a process that dies.

    Args:
      run: The run folder.

    Raises:
      RunFolderError: If another process holds the lock.
    """
    folder = run / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunFolderError(
            f"Another process is running in {str(run)!r}. Wait for it or stop it, or choose "
            "another folder with --run_dir=FOLDER."
        ) from None
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # It holds checkpoints, or was deleted with the run.
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()
