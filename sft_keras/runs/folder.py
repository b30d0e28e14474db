"""The folder one run leaves behind, and the lines it says meanwhile. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_keras.core.errors import RunFolderError, StoppedError
from sft_keras.core.files import write_atomic
from sft_keras.runs.console import Log, print_figures, print_line, print_passing
from sft_keras.runs.interrupt import StopRequest
from sft_keras.runs.lock import CHECKPOINTS, held

if TYPE_CHECKING:
    from sft_keras.runs.checkpoints import Checkpoints

DEFAULT_PARENT = "runs"
RECIPE = "recipe.json"
"""Every run writes it first; what has it may be overwritten when asked."""
REPORT = "report.json"
TRIALS = "trials.json"
"""What the trials of a plan leave instead."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder. Make one with `create`.

    Attributes:
      path: The folder.
      replaced: The earlier run that it overwrites, put aside until the new one is under way.
      is_quiet: Whether what is said goes to the log alone, as of one of many trials.
      log: How it is printed, see `console`; log.txt has all lines.
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
        """Makes the folder: `run_dir`, or the first free of PARENT/NAME, PARENT/NAME-2, ...

        Raises:
          RunFolderError: If it exists and is not to be overwritten, or cannot be written.
        """
        try:
            if run_dir is None:
                return cls(_first_free(Path(parent), name), log=log)
            path = Path(run_dir).expanduser()
            replaced = None
            require_usable(path, overwrite)
            if path.exists() and any(path.iterdir()):
                with held(path):
                    pass  # else a run that is under way would lose its folder
                replaced = path.with_name(f".{path.name}.replaced")
                shutil.rmtree(replaced, ignore_errors=True)
                path.rename(replaced)
            path.mkdir(parents=True, exist_ok=True)
            _try_writing(path)
        except OSError as error:
            target = Path(run_dir or parent)
            raise RunFolderError(
                f"The run folder must be writable. Received: {str(target)!r}, and the system says: "
                f"{error.strerror or error}. Choose another with --run_dir=FOLDER."
            ) from error
        return cls(path, replaced, log=log)

    @classmethod
    def reopen(cls, run_dir: str | os.PathLike[str], log: Log = "plain") -> RunFolder:
        """Opens the folder of a run that was begun, to go on with it.

        Raises:
          RunFolderError: If it is none, or nothing may be written there.
        """
        path = require_begun(run_dir)
        try:
            _try_writing(path)
        except OSError as error:
            raise RunFolderError(
                f"The run folder must be writable. Received: {str(path)!r}, and the system says: "
                f"{error.strerror or error}."
            ) from error
        return cls(path, log=log)

    @property
    def checkpoints(self) -> Checkpoints:
        """What a stopped run goes on from."""
        from sft_keras.runs.checkpoints import Checkpoints  # NumPy; run.py has to be quick

        return Checkpoints(self.path, self)

    @contextlib.contextmanager
    def discarded_on_error(self) -> Iterator[None]:
        """If the block fails, all is as before: the folder gone, what it replaced back again."""
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
        """Says how to go on with the run, where the block is stopped or the disk fails.

        Args:
          stop: Which signal it got.
          run_dir: The run's folder, if that is not this one, as for a worker that assists.

        Raises:
          StoppedError: If it was stopped.
          RunFolderError: If a file could not be written.
        """
        path = run_dir or self.path
        again = f"python -m sft_keras.run --resume={shlex.quote(str(path))}"
        try:
            yield
        except KeyboardInterrupt:
            status = 128 + (stop.received or signal.SIGINT)
            if (path / RECIPE).is_file():
                raise StoppedError(f"Stopped. Go on with: {again}", status) from None
            shutil.rmtree(self.path, ignore_errors=True)
            raise StoppedError("Stopped before the run began; it left nothing.", status) from None
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise RunFolderError(
                f"The run could not be written to {str(self.path)!r}: {error.strerror}. "
                f"Make room there and go on with: {again}"
            ) from error

    def file(self, name: str) -> Path:
        """Returns the path of a file in the folder."""
        return self.path / name

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes plain values to a file in the folder."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        write_atomic(self.file(name), text + "\n")

    def line(self, text: str) -> None:
        """Print a line and append it to log.txt."""
        if not self.is_quiet:
            print_line(text, self.log)
        # A disk that is full is no reason to stop training.
        with (
            contextlib.suppress(OSError),
            self.file("log.txt").open("a", encoding="utf-8") as log,
        ):
            log.write(text + "\n")

    def epoch(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of an epoch; `step` counts the batches of all stages."""
        if not self.is_quiet:
            print_figures(stage, step, metrics, self.log)
        for listener in self.epoch_listeners:
            listener(step, metrics)

    def progress(self, text: str) -> None:
        """Show transient progress on a terminal or in a notebook; elsewhere print nothing."""
        print_passing(text, self.log)


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
    """Returns the folder of a run that was begun.

    Raises:
      RunFolderError: If it is none.
    """
    path = Path(run_dir).expanduser()
    if (path / TRIALS).is_file():
        raise RunFolderError(
            f"A run of one recipe can go on, and {str(path)!r} compares many trials. Run its "
            "command again with --overwrite."
        )
    if not (path / RECIPE).is_file():
        raise RunFolderError(
            f"A run goes on in its own folder. Received: {str(path)!r}, which holds no "
            f"{RECIPE} and so no run that was begun."
        )
    return path


def is_finished(run_dir: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a run that has come to its end."""
    path = Path(run_dir).expanduser()
    return (path / REPORT).is_file() and not (path / CHECKPOINTS).exists()


def unfinished_run(name: str) -> Path | None:
    """Returns the folder of the latest run of a name under runs/ that is not finished."""
    found = [
        path
        for path in Path(DEFAULT_PARENT).glob(f"{name}*")
        if (path.name == name or path.name.removeprefix(f"{name}-").isdigit())
        and (path / RECIPE).is_file()
        and not is_finished(path)
    ]
    return max(found, key=lambda path: (path / RECIPE).stat().st_mtime, default=None)


def require_usable(run_dir: str | os.PathLike[str], overwrite: bool) -> None:
    """Checks that a run may write to a folder: a new or empty one, or an earlier run's.

    Raises:
      RunFolderError: If it is something else, or an earlier run that is not to be overwritten.
    """
    path = Path(run_dir).expanduser()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise RunFolderError(
            f"The run folder must be new or empty. Received: {str(path)!r}, which holds something. "
            "Choose another with --run_dir=FOLDER, or pass --overwrite to delete what is in it."
        )
    if not (path / RECIPE).is_file():
        raise RunFolderError(
            f"--overwrite deletes earlier runs and nothing else. Received: {str(path)!r}, which "
            f"holds no {RECIPE} and so was not made by a run. Delete it yourself, or choose "
            "another with --run_dir=FOLDER."
        )


def _try_writing(path: Path) -> None:
    probe = path / ".writable"
    probe.touch()
    probe.unlink()
