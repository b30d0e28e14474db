"""What makes a file last through a power cut, and a changed one show. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError

_READ_AT_ONCE = 2**24


def write_atomic(path: Path, text: str) -> None:
    """Writes `text` beside `path` and renames it, so that no reader meets half a file."""
    # A file name that is not UTF-8 reaches us with lone surrogates; as `\udcff` they are also
    # what JSON itself would write.
    data = text.encode("utf-8", errors="backslashreplace")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        sync_file(folder)


def checksum_of(values: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of plain values, in whatever order they are."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_checksum(path: Path, advance: Callable[[int], None] = lambda count: None) -> str:
    """Returns the SHA-256 of a file; `advance` is told how many bytes more were read."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_AT_ONCE):
            found.update(chunk)
            advance(len(chunk))
    return found.hexdigest()


@contextlib.contextmanager
def reading_run_file(path: Path) -> Iterator[None]:
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
    with reading_run_file(path):
        return json.loads(path.read_text(encoding="utf-8"))
