"""One run in a folder at a time. Does not import TensorFlow or NumPy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sft_keras.core.errors import RunFolderError

CHECKPOINTS = "checkpoints"
"""The folder within that of a run where the lock is too, and which goes away with the run's end."""
_LOCK = "lock"


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """Keeps other runs out of a run's folder within the block.

    The lock is the system's: one of a process that has died holds nobody up.

    Raises:
      RunFolderError: If another run is under way in it.
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
        with contextlib.suppress(OSError):  # It holds checkpoints, or is gone with the run.
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()
