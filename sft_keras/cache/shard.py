"""A shard: a folder of rows on disk, written atomically. Does not import TensorFlow.

about.json   description, and checksums of the other files
names        16 bytes per row
rows         the rows, concatenated
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sft_keras.cache.rows import Field, row_size, to_bytes
from sft_keras.core.files import checksum_of, file_checksum, sync_folder
from sft_keras.data.fingerprint import DIGEST_SIZE

PART = ".part-"
"""Prefix of the folder names of half-written and half-deleted shards."""
SHARD_NAME = re.compile("[0-9a-f]{32}")
"""Pattern of a shard's folder name."""

_FORMAT = 1
_ABOUT, _NAMES, _ROWS = "about.json", "names", "rows"
_SYNCED_EVERY = 2**26  # bytes; on a slow disk, more would accumulate in memory


class DamagedShardError(Exception):
    """The contents of a shard differ from what was written. The message says how."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """The description of a shard, as read from `about.json`.

    Attributes:
      path: Folder of the shard.
      count: Number of rows.
      fields: Layout of a row.
      about: Human-readable description of what was computed, and how.
      checksums: SHA-256 of the files "names" and "rows".
      used: Time of last use, in seconds since the epoch, as of loading.
    """

    path: Path
    count: int
    fields: tuple[Field, ...]
    about: Mapping[str, Any]
    checksums: Mapping[str, str]
    used: float

    @property
    def size(self) -> int:
        """Bytes on disk, excluding the description and the rounding to file-system blocks."""
        return self.count * (row_size(self.fields) + DIGEST_SIZE)

    @classmethod
    def load(cls, path: Path) -> Shard:
        """Read the description and check that the files exist and have the expected sizes.

        Raises:
          DamagedShardError: If a file is missing or has another size, or if the description is
            invalid.
          FileNotFoundError: If the shard does not exist, or was deleted meanwhile.
          OSError: If it cannot be read. It is not necessarily damaged then.
        """
        try:
            with (path / _ABOUT).open(encoding="utf-8") as file:
                used = os.fstat(file.fileno()).st_mtime
                shard = cls._from_description(path, json.load(file), used)
            sizes = {_NAMES: shard.count * DIGEST_SIZE, _ROWS: shard.count * row_size(shard.fields)}
            for name, expected in sizes.items():
                size = (path / name).stat().st_size
                if size != expected:
                    raise DamagedShardError(f"{name} has {size} bytes, expected {expected}")
        except (FileNotFoundError, IsADirectoryError) as error:
            if not path.is_dir():
                raise
            raise DamagedShardError(f"{Path(error.filename).name} is missing") from error
        except (ValueError, RecursionError) as error:
            raise DamagedShardError(f"{_ABOUT} cannot be read: {error!r}") from error
        return shard

    @classmethod
    def _from_description(cls, path: Path, description: Any, used: float) -> Shard:
        """Return the shard of a parsed description.

        Raises:
          DamagedShardError: If the description is invalid.
        """
        try:
            checksum = description.pop("checksum")
            if checksum != checksum_of(description):
                raise DamagedShardError(f"the checksum of {_ABOUT} does not match")
            if description["format"] != _FORMAT:
                raise DamagedShardError(f"format is {description['format']}, expected {_FORMAT}")
            fields = tuple(Field(dtype, tuple(shape)) for dtype, shape in description["fields"])
            row_size(fields)  # raises for an unknown dtype
            checksums = {name: str(description["checksums"][name]) for name in (_NAMES, _ROWS)}
            count, about = int(description["count"]), dict(description["about"])
            return cls(path, count, fields, about, checksums, used)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedShardError(f"{_ABOUT} is not a description: {error!r}") from error

    def verify(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read the whole shard and compare checksums.

        Args:
          progress: Called with (bytes read, total bytes).

        Raises:
          DamagedShardError: If a checksum does not match.
          OSError: If the shard cannot be read.
        """
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, self.size)

        for name, expected in self.checksums.items():
            if file_checksum(self.path / name, advance) != expected:
                raise DamagedShardError(f"the checksum of {name} does not match")

    def names(self) -> np.ndarray:
        """Return the names of the rows, uint8 [count, DIGEST_SIZE].

        Raises:
          DamagedShardError: If the file does not have `count` names.
          OSError: If it cannot be read.
        """
        names = np.fromfile(self.path / _NAMES, np.uint8)
        expected = self.count * DIGEST_SIZE
        if names.size != expected:
            raise DamagedShardError(f"{_NAMES} has {names.size} bytes, expected {expected}")
        return names.reshape(-1, DIGEST_SIZE)

    def open_rows(self) -> BinaryIO:
        """Open the file of the rows, unbuffered because rows are read in random order."""
        return (self.path / _ROWS).open("rb", buffering=0)

    def mark_used(self) -> None:
        """Record the current time as the time of last use, for `prune`."""
        with contextlib.suppress(OSError):  # A read-only folder can still be read.
            os.utime(self.path / _ABOUT)


class ShardWriter:
    """Writes one shard. It becomes visible at `commit`; after an error, call `discard`."""

    def __init__(self, folder: Path, fields: Sequence[Field], about: Mapping[str, Any]) -> None:
        """Start a new shard.

        Args:
          folder: Folder of the collection; created if missing.
          fields: Layout of a row.
          about: Human-readable description; must be JSON-serializable.

        Raises:
          OSError: If the folder cannot be written.
          TypeError: If `about` is not JSON-serializable.
        """
        self._folder, self._fields = folder, tuple(fields)
        # Normalized through JSON so that its checksum matches when read back, and so that a value
        # that JSON cannot represent fails here instead of after the rows have been computed.
        self._about = json.loads(json.dumps(dict(about)))
        self._count, self._unsynced = 0, 0
        self._files: dict[str, BinaryIO] = {}
        self._hashes = {name: hashlib.sha256() for name in (_NAMES, _ROWS)}
        self._path = folder / _part_name()
        self._path.mkdir(parents=True)
        try:
            for name in self._hashes:
                self._files[name] = (self._path / name).open("wb")
        except OSError:
            self.discard()
            raise

    def append(self, names: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
        """Write rows: names uint8 [m, DIGEST_SIZE], and one array [m, ...] per field.

        Raises:
          OSError: If writing fails, for example because the disk is full.
        """
        parts = {_NAMES: np.ascontiguousarray(names), _ROWS: to_bytes(arrays)}
        for name, values in parts.items():
            self._files[name].write(values.data)
            self._hashes[name].update(values.data)
        self._count += len(names)
        self._unsynced += parts[_ROWS].nbytes
        if self._unsynced >= _SYNCED_EVERY:
            self._sync()

    def commit(self) -> None:
        """Publish the shard atomically; without rows, no shard is created.

        Raises:
          OSError: If writing fails, for example because the disk is full.
        """
        if not self._count:
            self.discard()
            return
        self._sync()
        checksums = {name: digest.hexdigest() for name, digest in self._hashes.items()}
        description: dict[str, Any] = {
            "format": _FORMAT,
            "count": self._count,
            "fields": [[field.dtype, list(field.shape)] for field in self._fields],
            "about": self._about,
            "checksums": checksums,
        }
        description["checksum"] = checksum_of(description)
        for file in self._files.values():
            file.close()
        with (self._path / _ABOUT).open("w", encoding="utf-8") as about:
            about.write(json.dumps(description, indent=2))
            about.flush()
            os.fsync(about.fileno())
        sync_folder(self._path)
        self._publish(self._folder / checksums[_NAMES][:32])
        sync_folder(self._folder)

    def discard(self) -> None:
        """Delete everything written so far."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # Closing flushes, which fails on a full disk.
                file.close()
        shutil.rmtree(self._path, ignore_errors=True)

    def _publish(self, target: Path) -> None:
        """Rename the folder to the shard's final name, replacing a damaged shard of that name."""
        while True:
            try:
                self._path.rename(target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if _is_intact(target):  # Another run has written the same rows meanwhile.
                shutil.rmtree(self._path, ignore_errors=True)  # `DiskStore` sweeps leftovers.
                return
            delete_shard(target)

    def _sync(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._unsynced = 0


def delete_shard(path: Path) -> None:
    """Delete a shard atomically, so that no other run sees half of it.

    A shard that does not exist is not an error.

    Raises:
      OSError: If it cannot be deleted.
    """
    aside = path.with_name(_part_name())
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # Another process was faster.
    shutil.rmtree(aside, ignore_errors=True)  # `DiskStore` sweeps leftovers.


def _part_name() -> str:
    return PART + secrets.token_hex(8)


def _is_intact(path: Path) -> bool:
    try:
        Shard.load(path).verify()
    except (DamagedShardError, OSError):
        return False
    return True
