"""The run folder: its files, its log and its errors. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_keras.core.errors import RunFolderError, StoppedError
from sft_keras.core.files import write_atomic
from sft_keras.core.output import join_command
from sft_keras.runs.console import Log, print_epoch, print_line, print_progress
from sft_keras.runs.interrupt import StopRequest
from sft_keras.runs.lock import CHECKPOINTS, lock_run

if TYPE_CHECKING:
    from sft_keras.runs.checkpoints import Checkpoints

DEFAULT_PARENT = "runs"
RECIPE = "recipe.json"
"""The first file that a run writes; `overwrite` deletes only folders that have it."""
REPORT = "report.json"
TRIALS = "trials.json"
"""A plan of several trials writes this file instead."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder, which is also the run's `Reporter`. Create one with `create` or `reopen`.

    Attributes:
      path: The folder.
      replaced: Where the earlier run that it overwrites is kept until the new run has started.
      is_quiet: Whether lines are only written to log.txt, as for one of several trials.
      log: Format of the console output; log.txt always has all lines.
      epoch_listeners: Called with (step, metrics) after each epoch, see `epoch`.
    """

    path: Path
    replaced: Path | None = None
    is_quiet: bool = False
    log: Log = "plain"
    epoch_listeners: list[Callable[[int, Mapping[str, float]], None]] = dataclasses.field(
        default_factory=list
    )

    @classmethod
    def create(
        cls,
        name: str,
        run_dir: str | os.PathLike[str] | None,
        overwrite: bool,
        parent: str = DEFAULT_PARENT,
        log: Log = "plain",
    ) -> RunFolder:
        """Create the folder of a new run.

        Args:
          name: Name of the run.
          run_dir: The folder; None for the first free one of PARENT/NAME, PARENT/NAME-2, ...
          overwrite: Whether an earlier run in `run_dir` is replaced.
          parent: Folder of the runs without a `run_dir`.
          log: Format of the console output.

        Raises:
          RunFolderError: If the folder exists and must not be overwritten, or cannot be written.
        """
        try:
            if run_dir is None:
                return cls(_first_free(Path(parent), name), log=log)
            path = Path(run_dir).expanduser()
            replaced = None
            require_usable(path, overwrite)
            if path.exists() and any(path.iterdir()):
                with lock_run(path):
                    pass  # a run in progress must not lose its folder
                replaced = path.with_name(f".{path.name}.replaced")
                shutil.rmtree(replaced, ignore_errors=True)
                path.rename(replaced)
            path.mkdir(parents=True, exist_ok=True)
            _try_writing(path)
        except OSError as error:
            target = Path(run_dir or parent)
            raise RunFolderError(
                f"The run folder must be writable. Received: {str(target)!r} (system error: "
                f"{error.strerror or error}). Choose another with --run_dir=FOLDER."
            ) from error
        return cls(path, replaced, log=log)

    @classmethod
    def reopen(cls, run_dir: str | os.PathLike[str], log: Log = "plain") -> RunFolder:
        """Open the folder of a started run, to resume it.

        Raises:
          RunFolderError: If it is not the folder of a started run, or cannot be written.
        """
        path = require_begun(run_dir)
        try:
            _try_writing(path)
        except OSError as error:
            raise RunFolderError(
                f"The run folder must be writable. Received: {str(path)!r} (system error: "
                f"{error.strerror or error})."
            ) from error
        return cls(path, log=log)

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints from which a stopped run resumes."""
        from sft_keras.runs.checkpoints import Checkpoints  # imports NumPy; run.py must not

        return Checkpoints(self.path, self)

    @contextlib.contextmanager
    def discarded_on_error(self) -> Iterator[None]:
        """If the block fails, delete the folder and restore the run that it replaced."""
        try:
            yield
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            if self.replaced:
                self.replaced.rename(self.path)
            raise
        if self.replaced:
            shutil.rmtree(self.replaced)

    @contextlib.contextmanager
    def explain_errors(self, stop: StopRequest, run_dir: Path | None = None) -> Iterator[None]:
        """Convert interrupts and full disks within the block to errors that say how to resume.

        Args:
          stop: Holds the signal that was received.
          run_dir: The run folder, if it is not this one, as for a worker that is not the chief.

        Raises:
          StoppedError: If the run was stopped.
          RunFolderError: If the disk is full or read-only.
        """
        path = run_dir or self.path
        command = join_command(["python", "-m", "sft_keras.run", f"--resume={path}"])
        try:
            yield
        except KeyboardInterrupt:
            status = 128 + (stop.received or signal.SIGINT)
            if (path / RECIPE).is_file():
                raise StoppedError(f"Stopped. Resume with: {command}", status) from None
            shutil.rmtree(self.path, ignore_errors=True)
            raise StoppedError("Stopped before the run started; no files remain.", status) from None
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise RunFolderError(
                f"The run could not be written to {str(self.path)!r}: {error.strerror}. "
                f"Free some space and resume with: {command}"
            ) from error

    def file(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write plain values to a JSON file in the folder."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        write_atomic(self.file(name), text + "\n")

    def line(self, text: str) -> None:
        """Print a line and append it to log.txt."""
        if not self.is_quiet:
            print_line(text, self.log)
        # A full disk must not stop training.
        with (
            contextlib.suppress(OSError),
            self.file("log.txt").open("a", encoding="utf-8") as log,
        ):
            log.write(text + "\n")

    def epoch(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of an epoch; `step` counts the batches of all stages."""
        if not self.is_quiet:
            print_epoch(stage, step, metrics, self.log)
        for listener in self.epoch_listeners:
            listener(step, metrics)

    def progress(self, text: str) -> None:
        """Show transient progress on a terminal or in a notebook; elsewhere print nothing."""
        print_progress(text, self.log)


def _first_free(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def require_begun(run_dir: str | os.PathLike[str]) -> Path:
    """Return the path of a started run's folder.

    Raises:
      RunFolderError: If it is not the folder of a started run.
    """
    path = Path(run_dir).expanduser()
    if (path / TRIALS).is_file():
        raise RunFolderError(
            f"Only a run of one recipe can be resumed, and {str(path)!r} compares several trials. "
            "Run its command again with --overwrite."
        )
    if not (path / RECIPE).is_file():
        raise RunFolderError(
            f"Only a run that was started can be resumed. Received: {str(path)!r}, which holds no "
            f"{RECIPE}."
        )
    return path


def is_finished(run_dir: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a finished run."""
    path = Path(run_dir).expanduser()
    return (path / REPORT).is_file() and not (path / CHECKPOINTS).exists()


def unfinished_run(name: str) -> Path | None:
    """Return the folder of the latest unfinished run of a name in runs/, or None."""
    unfinished = [
        path
        for path in Path(DEFAULT_PARENT).glob(f"{name}*")
        if (path.name == name or path.name.removeprefix(f"{name}-").isdigit())
        and (path / RECIPE).is_file()
        and not is_finished(path)
    ]
    return max(unfinished, key=lambda path: (path / RECIPE).stat().st_mtime, default=None)


def require_usable(run_dir: str | os.PathLike[str], overwrite: bool) -> None:
    """Check that a new run may use a folder: a new or empty one, or that of an earlier run.

    Raises:
      RunFolderError: If it holds something else, or an earlier run without `overwrite`.
    """
    path = Path(run_dir).expanduser()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise RunFolderError(
            f"The run folder must be new or empty. Received: {str(path)!r}, which is not empty. "
            "Choose another with --run_dir=FOLDER, or pass --overwrite to delete its contents."
        )
    if not (path / RECIPE).is_file():
        raise RunFolderError(
            f"--overwrite deletes only earlier runs. Received: {str(path)!r}, which "
            f"holds no {RECIPE}, so no run created it. Delete it yourself, or choose "
            "another with --run_dir=FOLDER."
        )


def _try_writing(path: Path) -> None:
    probe = path / ".writable"
    probe.touch()
    probe.unlink()
