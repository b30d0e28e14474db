"""Durable writes, checksums, and reading the files of a run. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError

_CHUNK_BYTES = 2**24


def write_atomic(path: Path, text: str) -> None:
    """Write a text file atomically: to a temporary file beside it, which is synced and renamed."""
    # File names that are not UTF-8 arrive with lone surrogates. As `\udcff` they are what JSON
    # itself would write.
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
    """Flush a file to the disk."""
    with path.open("r+b") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename survives a power cut, where the system supports it.

    Windows cannot open folders; its file system keeps a log of renames instead.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def checksum_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values as hexadecimal digits, independent of key order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_checksum(path: Path, advance: Callable[[int], None] = lambda count: None) -> str:
    """Return the SHA-256 of a file; `advance` receives the size of each chunk read, in bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


@contextlib.contextmanager
def reading_run_file(path: Path) -> Iterator[None]:
    """Convert errors within the block, which reads and interprets a run's file.

    Raises:
      RunFolderError: If the file cannot be read or lacks an expected value.
    """
    try:
        yield
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} must be unchanged since the run wrote it. It cannot be read: "
            f"{type(error).__name__} {error}. Copy it again from the machine of the run."
        ) from error


def read_json(path: Path) -> Any:
    """Return the contents of a run's JSON file.

    Raises:
      RunFolderError: If it cannot be read.
    """
    with reading_run_file(path):
        return json.loads(path.read_text(encoding="utf-8"))
