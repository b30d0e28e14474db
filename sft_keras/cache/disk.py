"""Stored rows on disk, checked before they are used. No TensorFlow.

    FOLDER/<key of the collection>/<shard>/...

A shard is never changed. Several runs may write at once; two that compute the same leave one shard.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sft_keras.cache.rows import Field, RowIndex, row_size
from sft_keras.cache.shard import (
    PART,
    SHARD_NAME,
    DamagedShardError,
    Shard,
    ShardWriter,
    delete_shard,
)
from sft_keras.core.errors import RecipeError
from sft_keras.core.reporter import SILENT, Reporter

# Nothing else in the folder is touched: it may be one that holds other things too.
_KEY = re.compile("[0-9a-f]{64}")
_PART_NAME = re.compile(re.escape(PART) + ".*")
_ABANDONED_AFTER = 24 * 3600.0  # seconds without a write, after which a temporary folder is rubbish


CUT_OFF = "a stored boundary was cut off while it was in use"
"""What reading a file says that is shorter than it was; TensorFlow passes on the words alone."""


class Collection:
    """The rows of one boundary that lie on disk, found and checked. Holds its files open.

    A shard that another process deletes meanwhile stays readable on POSIX systems.
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self._index = RowIndex()
        self._files: list[BinaryIO] = []
        self._starts: list[int] = [0]
        self._lock = threading.Lock()  # training and validation may read at the same time

    def add(self, shard: Shard) -> None:
        """Adds a shard's rows, or none of them.

        Raises:
          DamagedShardError: If their names cannot be told.
          OSError: If they cannot be read.
        """
        names = shard.names()
        self._files.append(shard.open_rows())
        # Last, for a name without a file would be found as a row of the next shard.
        self._index.add(names, self._starts[-1])
        self._starts.append(self._starts[-1] + shard.count)

    def find(self, names: np.ndarray) -> np.ndarray:
        """See `RowIndex.find`."""
        return self._index.find(names)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the bytes of rows by their numbers, uint8 [m, bytes a row].

        Raises:
          OSError: If a file was cut off since it was opened.
        """
        size = row_size(self.fields)
        rows = np.empty((len(numbers), size), np.uint8)
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        for row, number, shard in zip(rows, numbers, shards):
            with self._lock:
                self._files[shard].seek((int(number) - self._starts[shard]) * size)
                count = self._files[shard].readinto(row)
            if count != size:
                raise OSError(errno.EIO, CUT_OFF)
        return rows

    def close(self) -> None:
        """Closes the files and forgets the names; nothing can be read any more."""
        with self._lock:
            for file in self._files:
                file.close()
        self._index = RowIndex()


class DiskStore:
    """The folder of all collections."""

    def __init__(self, folder: Path, reporter: Reporter = SILENT) -> None:
        """`reporter` receives a line about each shard that is damaged or cannot be accessed."""
        self.folder = folder
        self._reporter = reporter
        self._left_out: set[Path] = set()
        self._opened: list[Collection] = []

    def shards(self, key: str | None = None) -> Iterator[Path]:
        """Yields the folders of the shards, of one collection or of all."""
        for folder in self._collections() if key is None else [self.folder / key]:
            for path in self._folders(folder, SHARD_NAME):
                if path not in self._left_out:
                    yield path

    def _report_skipped(self, fault: str, path: Path, error: OSError) -> None:
        self._reporter.line(f"cache  {fault}, and left out: {path} ({_reason(error)})")

    def _verification_progress(self, path: Path) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            share = done / max(total, 1)
            self._reporter.progress(f"checking stored rows {path.name[:8]} {share:.0%}")

        return report

    def parts(self) -> Iterator[Path]:
        """Yields the folders of what is being written or deleted, or was when a process died."""
        for folder in self._collections():
            yield from self._folders(folder, _PART_NAME)

    def collection(
        self,
        key: str,
        fields: tuple[Field, ...],
    ) -> Collection:
        """Returns the rows of a collection that are whole; what is damaged is deleted.

        What cannot be read, say for want of permission, is left alone and left out.
        """
        found = Collection(fields)
        for path in self.shards(key):
            try:
                shard = Shard.load(path)
                if shard.fields != fields:
                    raise DamagedShardError(f"it holds {shard.fields} and not {fields}")
                shard.verify(self._verification_progress(path))
                found.add(shard)
            except DamagedShardError as error:
                self._reporter.line(f"cache  damaged, and computed again: {path} ({error})")
                self._delete(path)
            except FileNotFoundError:
                continue  # Another process has deleted it meanwhile.
            except OSError as error:
                self._reporter.line(
                    f"cache  cannot be read, and left out: {path} ({_reason(error)})"
                )
            else:
                shard.mark_used()
        self._opened.append(found)
        return found

    def close(self) -> None:
        """Closes the collections that were opened.

        Letting go of them is not enough: TensorFlow keeps what a graph calls, as
        `tf.numpy_function` does, for as long as the process lives.
        """
        for collection in self._opened:
            collection.close()
        self._opened.clear()

    def writer(self, key: str, fields: tuple[Field, ...], about: Mapping[str, Any]) -> ShardWriter:
        """Begins a new shard.

        Raises:
          OSError: If the folder cannot be written.
        """
        self._sweep()
        return ShardWriter(self.folder / key, fields, about)

    def delete(self, key: str) -> None:
        """Deletes a collection. What cannot be deleted is not found again by this store."""
        for path in self.shards(key):
            self._delete(path)

    def free(self) -> int:
        """Returns how many bytes are free where the folder lies or will lie; 0 if unknown."""
        for place in (self.folder, *self.folder.parents):
            with contextlib.suppress(OSError):  # It is not there yet, or may not be looked into.
                return shutil.disk_usage(place).free
        return 0

    def prune(self, most: int) -> list[Path]:
        """Deletes the shards used longest ago until at most `most` bytes are left; returns them.

        What is damaged goes first, whatever the size. What is being written does not count.
        """
        kept: list[Shard] = []
        unwanted: list[Path] = []
        for path in self.shards():
            try:
                kept.append(Shard.load(path))
            except DamagedShardError:
                unwanted.append(path)
            except FileNotFoundError:
                continue  # Another process has deleted it meanwhile.
            except OSError as error:
                self._reporter.line(
                    f"cache  cannot be read, and left out: {path} ({_reason(error)})"
                )
        kept.sort(key=lambda shard: shard.used)
        while kept and sum(shard.size for shard in kept) > most:
            unwanted.append(kept.pop(0).path)
        deleted = [path for path in unwanted if self._delete(path)]
        self._sweep()
        for folder in self._collections():
            with contextlib.suppress(OSError):  # It is not empty, or may not be deleted.
                folder.rmdir()
        return deleted

    def _collections(self) -> list[Path]:
        return self._folders(self.folder, _KEY)

    def _folders(self, folder: Path, name: re.Pattern[str]) -> list[Path]:
        """Returns the folders of such a name in a folder, in order; none if it is not there."""
        try:
            with os.scandir(folder) as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if folder not in self._left_out:
                self._left_out.add(folder)
                self._reporter.line(
                    f"cache  cannot be read, and left out: {folder} ({_reason(error)})"
                )
            return []
        return [folder / each for each in sorted(found) if name.fullmatch(each)]

    def _delete(self, path: Path) -> bool:
        try:
            delete_shard(path)
        except OSError as error:
            self._left_out.add(path)
            self._reporter.line(
                f"cache  cannot be deleted, and left out: {path} ({_reason(error)})"
            )
            return False
        return True

    def _sweep(self) -> None:
        """Deletes what processes that died have left half written."""
        for path in self.parts():
            with contextlib.suppress(OSError):  # Its own process is just done with it.
                newest = max(file.stat().st_mtime for file in (path, *path.iterdir()))
                if time.time() - newest > _ABANDONED_AFTER:
                    shutil.rmtree(path, ignore_errors=True)


def store_folder(given: str | None = None) -> Path:
    """Returns where stored boundaries lie: in the folder that a recipe gives, or in the default.

    Raises:
      RecipeError: If there is no such home folder.
    """
    named = given or os.environ.get("SFT_KERAS_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(named) if named else base / "sft_keras"
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise RecipeError(
            f"There is no home folder for the cache {str(folder)!r}: {error} "
            "Set `store.folder` or the environment variable SFT_KERAS_CACHE to a folder."
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
