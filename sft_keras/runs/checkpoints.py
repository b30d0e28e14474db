"""What a stopped run goes on from, in its folder.

RUN/checkpoints/00000012   a checkpoint; the last two are kept
RUN/checkpoints/NAME       what came out of a part of the run that is done, such as its evaluation

The folder goes away when the run is finished. No TensorFlow.
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
    """The checkpoints of a run, and what its finished parts gave."""

    def __init__(self, run: Path, reporter: Reporter = SILENT, reads_only: bool = False) -> None:
        """Takes the run's folder.

        Args:
          run: The folder.
          reporter: Receives a line about each damaged checkpoint.
          reads_only: Whether what is damaged is left there, as another process' affair.
        """
        self.folder = run / CHECKPOINTS
        self._reporter, self._reads_only = reporter, reads_only

    def write(self, snapshot: Snapshot) -> None:
        """Writes a checkpoint and deletes all but the last two.

        Raises:
          OSError: If the disk is full, or the like; those before are still there.
        """
        numbers = self._numbers()
        number = int(numbers[-1]) + 1 if numbers else 1
        write_snapshot(self.folder / f"{number:08d}", snapshot)
        for old in numbers[: len(numbers) + 1 - _KEPT]:
            self._delete(old)

    def newest(self) -> Snapshot | None:
        """Returns the newest checkpoint that is whole; what is damaged is said and deleted."""
        for name in reversed(self._numbers()):
            found = self._read(name)
            if found is not None:
                return found
        return None

    def done(self, part: str, do: Callable[[], Snapshot]) -> Snapshot:
        """Returns what a part of the run gave, which is done now if it was not before.

        Raises:
          OSError: As `write`.
        """
        if (self.folder / part).is_dir():
            found = self._read(part)
            if found is not None:
                return found
        given = do()
        given = Snapshot(plain(given.facts), given.arrays)
        write_snapshot(self.folder / part, given)
        return given

    def forget(self, *parts: str) -> None:
        """Has parts done again."""
        for part in parts:
            self._delete(part)

    def sweep(self) -> None:
        """Deletes what was being written when a process died."""
        for path in self.folder.glob(f"{PART}*"):
            shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Deletes all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _numbers(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(each.name for each in self.folder.iterdir() if _NUMBER.fullmatch(each.name))

    def _read(self, name: str) -> Snapshot | None:
        path = self.folder / name
        try:
            return read_snapshot(path)
        except DamagedSnapshotError as error:
            self._reporter.line(f"checkpoint  damaged, and left out: {path} ({error})")
            if not self._reads_only:
                self._delete(name)
            return None

    def _delete(self, name: str) -> None:
        """Deletes a snapshot; not file by file, so that no one finds half of it."""
        path = self.folder / name
        aside = self.folder / f"{PART}deleted-{name}"
        with contextlib.suppress(OSError):  # It is not there, or may not be deleted.
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
