"""One shard of stored rows on disk: written whole or not at all. No TensorFlow.

about.json   what it is, and checksums of the rest
names        16 bytes a row
rows         the rows, one after the other
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
"""How the names of half-written and half-deleted shards begin."""
SHARD_NAME = re.compile("[0-9a-f]{32}")
"""What the name of a shard's folder looks like."""

_FORMAT = 1
_ABOUT, _NAMES, _ROWS = "about.json", "names", "rows"
_SYNCED_EVERY = 2**26  # bytes; more would pile up in memory where the disk is slow


class DamagedShardError(Exception):
    """A shard is not what was written; its message says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard's description, as `about.json` has it.

    Attributes:
      path: Its folder.
      count: Rows.
      fields: What a row is made of.
      about: For people: what was computed, with what.
      checksums: SHA-256 of the files "names" and "rows".
      used: When it was last used, in seconds since 1970, as of when this was read.
    """

    path: Path
    count: int
    fields: tuple[Field, ...]
    about: Mapping[str, Any]
    checksums: Mapping[str, str]
    used: float

    @property
    def size(self) -> int:
        """Bytes on disk, to within a block or two."""
        return self.count * (row_size(self.fields) + DIGEST_SIZE)

    @classmethod
    def load(cls, path: Path) -> Shard:
        """Reads the description and checks that the files are there and of the right length.

        Raises:
          DamagedShardError: If not.
          FileNotFoundError: If the whole shard is not there, or no longer.
          OSError: If it cannot be read, which says nothing about what it holds.
        """
        try:
            with (path / _ABOUT).open(encoding="utf-8") as file:
                used = os.fstat(file.fileno()).st_mtime
                shard = cls._described(path, json.load(file), used)
            sizes = {_NAMES: shard.count * DIGEST_SIZE, _ROWS: shard.count * row_size(shard.fields)}
            for name, size in sizes.items():
                found = (path / name).stat().st_size
                if found != size:
                    raise DamagedShardError(f"{name} has {found} bytes and not {size}")
        except (FileNotFoundError, IsADirectoryError) as error:
            if not path.is_dir():
                raise
            raise DamagedShardError(f"{Path(error.filename).name} is not there") from error
        except (ValueError, RecursionError) as error:
            raise DamagedShardError(f"{_ABOUT} cannot be read: {error!r}") from error
        return shard

    @classmethod
    def _described(cls, path: Path, text: Any, used: float) -> Shard:
        """Returns the shard that a description is of.

        Raises:
          DamagedShardError: If it is no description.
        """
        try:
            checksum = text.pop("checksum")
            if checksum != checksum_of(text):
                raise DamagedShardError(f"{_ABOUT} was changed")
            if text["format"] != _FORMAT:
                raise DamagedShardError(f"format {text['format']} is not {_FORMAT}")
            fields = tuple(Field(dtype, tuple(shape)) for dtype, shape in text["fields"])
            row_size(fields)  # fails for a dtype that there is not
            checksums = {name: str(text["checksums"][name]) for name in (_NAMES, _ROWS)}
            return cls(path, int(text["count"]), fields, dict(text["about"]), checksums, used)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedShardError(f"{_ABOUT} is no description: {error!r}") from error

    def verify(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Reads all of it and compares the checksums; `progress` is told (bytes done, in all).

        Raises:
          DamagedShardError: If they differ.
          OSError: If it cannot be read.
        """
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, self.size)

        for name, expected in self.checksums.items():
            if file_checksum(self.path / name, advance) != expected:
                raise DamagedShardError(f"the checksum of {name} does not fit")

    def names(self) -> np.ndarray:
        """Returns the names of the rows, uint8 [count, DIGEST_SIZE].

        Raises:
          DamagedShardError: If there are not so many.
          OSError: If they cannot be read.
        """
        names = np.fromfile(self.path / _NAMES, np.uint8)
        if names.size != self.count * DIGEST_SIZE:
            raise DamagedShardError(f"{_NAMES} has {names.size} bytes")
        return names.reshape(-1, DIGEST_SIZE)

    def open_rows(self) -> BinaryIO:
        """Returns the file of the rows, open and unbuffered: rows are read in any order."""
        return (self.path / _ROWS).open("rb", buffering=0)

    def mark_used(self) -> None:
        """Notes that it was used now, for `prune`."""
        with contextlib.suppress(OSError):  # A folder that is read-only serves as well.
            os.utime(self.path / _ABOUT)


class ShardWriter:
    """Writes one shard. Nothing is to be found until `commit`; after an error, `discard`."""

    def __init__(self, folder: Path, fields: Sequence[Field], about: Mapping[str, Any]) -> None:
        """Begins a shard in `folder`, which is made; `about` must be JSON-able.

        Raises:
          OSError: If the folder cannot be written.
        """
        self._folder, self._fields = folder, tuple(fields)
        # As it will be read, so that its checksum fits; and what JSON cannot hold fails now and
        # not after the rows were computed.
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
        """Writes rows: names uint8 [m, DIGEST_SIZE], and an array [m, ...] for each field.

        Raises:
          OSError: If the disk is full, or the like.
        """
        parts = {_NAMES: np.ascontiguousarray(names), _ROWS: to_bytes(arrays)}
        for name, values in parts.items():
            self._files[name].write(values)
            self._hashes[name].update(values)
        self._count += len(names)
        self._unsynced += parts[_ROWS].nbytes
        if self._unsynced >= _SYNCED_EVERY:
            self._sync()

    def commit(self) -> None:
        """Makes the shard appear, whole; a shard of no rows is none.

        Raises:
          OSError: If the disk is full, or the like.
        """
        if not self._count:
            self.discard()
            return
        self._sync()
        checksums = {name: found.hexdigest() for name, found in self._hashes.items()}
        text: dict[str, Any] = {
            "format": _FORMAT,
            "count": self._count,
            "fields": [[field.dtype, list(field.shape)] for field in self._fields],
            "about": self._about,
            "checksums": checksums,
        }
        text["checksum"] = checksum_of(text)
        for file in self._files.values():
            file.close()
        with (self._path / _ABOUT).open("w", encoding="utf-8") as file:
            file.write(json.dumps(text, indent=2))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._path)
        self._publish(self._folder / checksums[_NAMES][:32])
        sync_folder(self._folder)

    def discard(self) -> None:
        """Deletes what was written so far."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # Closing writes what is left, for which no room is.
                file.close()
        shutil.rmtree(self._path, ignore_errors=True)

    def _publish(self, target: Path) -> None:
        """Gives the shard its name, which a damaged one may have."""
        while True:
            try:
                self._path.rename(target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if _is_whole(target):  # Another run has written the same rows meanwhile.
                shutil.rmtree(self._path, ignore_errors=True)  # `DiskStore` sweeps what is left.
                return
            delete_shard(target)

    def _sync(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._unsynced = 0


def delete_shard(path: Path) -> None:
    """Deletes a shard. It goes at once and not file by file, so that no run sees half of it.

    Raises:
      OSError: If that is not allowed; that it is not there is no error.
    """
    aside = path.with_name(_part_name())
    try:
        path.rename(aside)
    except FileNotFoundError:
        return  # Another process was faster.
    shutil.rmtree(aside, ignore_errors=True)  # `DiskStore` sweeps what is left.


def _part_name() -> str:
    return PART + secrets.token_hex(8)


def _is_whole(path: Path) -> bool:
    try:
        Shard.load(path).verify()
    except (DamagedShardError, OSError):
        return False
    return True
