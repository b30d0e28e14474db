"""The folder one run leaves behind, and the lines it says meanwhile. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_keras.errors import RunFolderError

DEFAULT_PARENT = "runs"
_MARK = "recipe.json"  # every run writes it first; what has it may be overwritten when asked


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder. Make one with `create`.

    Attributes:
      path: The folder.
      replaced: The earlier run that it overwrites, put aside until the new one is under way.
      is_quiet: Whether what is said goes to the log alone, as of one of many trials.
    """

    path: Path
    replaced: Path | None = None
    is_quiet: bool = False

    @classmethod
    def create(
        cls, name: str, run_dir: str | os.PathLike[str] | None, overwrite: bool
    ) -> RunFolder:
        """Makes the folder: `run_dir`, or the first free of runs/NAME, runs/NAME-2, ...

        Raises:
          RunFolderError: If it exists and is not to be overwritten, or cannot be written.
        """
        try:
            if run_dir is None:
                return cls(_first_free(Path(DEFAULT_PARENT), name))
            path = Path(run_dir).expanduser()
            replaced = None
            require_usable(path, overwrite)
            if path.exists() and any(path.iterdir()):
                replaced = path.with_name(f".{path.name}.replaced")
                shutil.rmtree(replaced, ignore_errors=True)
                path.rename(replaced)
            path.mkdir(parents=True, exist_ok=True)
            _try_writing(path)
        except OSError as error:
            target = Path(run_dir or DEFAULT_PARENT)
            raise RunFolderError(
                f"The run folder must be writable. Received: {str(target)!r}, and the system says: "
                f"{error.strerror or error}. Choose another with --run_dir=FOLDER."
            ) from error
        return cls(path, replaced)

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

    def file(self, name: str) -> Path:
        """Returns the path of a file in the folder."""
        return self.path / name

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes plain values to a file in the folder."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        self.file(name).write_text(text + "\n", encoding="utf-8")

    def say(self, line: str) -> None:
        """Prints a line and adds it to log.txt."""
        if not self.is_quiet:
            # A terminal may still show the start of a passing line; wipe it.
            print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, flush=True)
        with self.file("log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def tick(self, line: str) -> None:
        """Shows a line on a terminal until the next one; elsewhere it is left out."""
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)


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
    if not (path / _MARK).is_file():
        raise RunFolderError(
            f"--overwrite deletes earlier runs and nothing else. Received: {str(path)!r}, which "
            f"holds no {_MARK} and so was not made by a run. Delete it yourself, or choose another "
            "with --run_dir=FOLDER."
        )


def _try_writing(path: Path) -> None:
    probe = path / ".writable"
    probe.touch()
    probe.unlink()
