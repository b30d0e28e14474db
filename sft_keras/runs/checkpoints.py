"""The checkpoints of a run, from which a stopped run resumes. No TensorFlow.

RUN/checkpoints/00000012   a training checkpoint; the last two are kept
RUN/checkpoints/NAME       the result of a finished part of the run, e.g. its evaluation

The folder is deleted when the run has finished.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from sft_keras.core.reporter import SILENT, Reporter
from sft_keras.core.snapshot import (
    PART,
    DamagedSnapshotError,
    Snapshot,
    plain,
    read_snapshot,
    write_snapshot,
)
from sft_keras.runs.lock import CHECKPOINTS

_NUMBER = re.compile(r"\d{8}")
_KEPT = 2


class Checkpoints:
    """The training checkpoints of a run and the results of its finished parts.

    Attributes:
      folder: RUN/checkpoints.
    """

    def __init__(self, run: Path, reporter: Reporter = SILENT, reads_only: bool = False) -> None:
        """Use the checkpoints of a run.

        Args:
          run: The run folder.
          reporter: Receives a line about each damaged checkpoint.
          reads_only: Whether damaged checkpoints are kept, because another process writes here.
        """
        self.folder = run / CHECKPOINTS
        self._reporter, self._reads_only = reporter, reads_only

    def write(self, snapshot: Snapshot) -> None:
        """Write a checkpoint and delete all but the last two.

        Raises:
          OSError: If it cannot be written, e.g. because the disk is full; earlier checkpoints
            remain.
        """
        numbers = self._numbers()
        number = int(numbers[-1]) + 1 if numbers else 1
        write_snapshot(self.folder / f"{number:08d}", snapshot)
        for old in numbers[: len(numbers) + 1 - _KEPT]:
            self._delete(old)

    def newest(self) -> Snapshot | None:
        """Return the newest intact checkpoint; damaged ones are reported and deleted."""
        for name in reversed(self._numbers()):
            snapshot = self._read(name)
            if snapshot is not None:
                return snapshot
        return None

    def run_once(self, part: str, compute: Callable[[], Snapshot]) -> Snapshot:
        """Return the result of a part of the run, computed now unless it was before.

        Args:
          part: Name of the part.
          compute: Returns its result.

        Raises:
          OSError: If the result cannot be written.
        """
        if (self.folder / part).is_dir():
            recorded = self._read(part)
            if recorded is not None:
                return recorded
        result = compute()
        result = Snapshot(plain(result.facts), result.arrays)
        write_snapshot(self.folder / part, result)
        return result

    def forget(self, *parts: str) -> None:
        """Delete the results of parts, so that they are computed again."""
        for part in parts:
            self._delete(part)

    def sweep(self) -> None:
        """Delete incomplete snapshots of processes that died while writing."""
        for path in self.folder.glob(f"{PART}*"):
            shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Delete all checkpoints and results."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _numbers(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if _NUMBER.fullmatch(path.name))

    def _read(self, name: str) -> Snapshot | None:
        path = self.folder / name
        try:
            return read_snapshot(path)
        except DamagedSnapshotError as error:
            self._reporter.line(f"checkpoint  skipped, because it is damaged: {path} ({error})")
            if not self._reads_only:
                self._delete(name)
            return None

    def _delete(self, name: str) -> None:
        """Delete a snapshot atomically: rename it first, so that no reader finds half of it."""
        path = self.folder / name
        aside = self.folder / f"{PART}deleted-{name}"
        with contextlib.suppress(OSError):  # It does not exist, or may not be deleted.
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
