"""Collections of cached features on disk, verified before use. Does not import TensorFlow.

    FOLDER/<key of the collection>/<shard>/...

A shard is immutable. Several runs may write at once; two that compute the same rows leave one
shard.
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

# Nothing else in the folder is touched: it may also hold files that are not ours.
_KEY = re.compile("[0-9a-f]{64}")
_PART_NAME = re.compile(re.escape(PART) + ".*")
_ABANDONED_AFTER = 24 * 3600.0  # seconds without a write before a half-written shard is deleted


TRUNCATED = "a file of the feature cache was truncated while in use"
"""Message of the error for a file that is shorter than when it was opened.

TensorFlow passes on only the message of an exception, so callers recognize it by this text.
"""


class Collection:
    """The verified on-disk rows of one boundary. Keeps its files open.

    On POSIX systems a shard that another process deletes stays readable.
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self._index = RowIndex()
        self._files: list[BinaryIO] = []
        self._starts: list[int] = [0]
        self._lock = threading.Lock()  # training and validation may read concurrently

    def add(self, shard: Shard) -> None:
        """Add all rows of a shard; after an error, none are added.

        Raises:
          DamagedShardError: If the row names are incomplete.
          OSError: If a file cannot be read.
        """
        names = shard.names()
        self._files.append(shard.open_rows())
        # Last, because a name without a file would be looked up in the next shard.
        self._index.add(names, self._starts[-1])
        self._starts.append(self._starts[-1] + shard.count)

    def find(self, names: np.ndarray) -> np.ndarray:
        """Return row numbers, int64 [m]; -1 where no row has that name."""
        return self._index.find(names)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the bytes of rows by their numbers, uint8 [m, bytes per row].

        Raises:
          OSError: If a file was truncated since it was opened.
        """
        size = row_size(self.fields)
        rows = np.empty((len(numbers), size), np.uint8)
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        for row, number, shard in zip(rows, numbers, shards):
            with self._lock:
                self._files[shard].seek((int(number) - self._starts[shard]) * size)
                count = self._files[shard].readinto(row)
            if count != size:
                raise OSError(errno.EIO, TRUNCATED)
        return rows

    def close(self) -> None:
        """Close the files and clear the index; the rows can no longer be read."""
        with self._lock:
            for file in self._files:
                file.close()
        self._index = RowIndex()


class DiskStore:
    """The cache folder, which holds all collections."""

    def __init__(self, folder: Path, reporter: Reporter = SILENT) -> None:
        """Open a cache folder, which need not exist.

        Args:
          folder: The folder.
          reporter: Receives a line about each shard that is damaged or cannot be accessed.
        """
        self.folder = folder
        self._reporter = reporter
        self._skipped: set[Path] = set()
        self._opened: list[Collection] = []

    def shards(self, key: str | None = None) -> Iterator[Path]:
        """Yield the folders of the shards of one collection, or of all."""
        for folder in self._collections() if key is None else [self.folder / key]:
            for path in self._folders(folder, SHARD_NAME):
                if path not in self._skipped:
                    yield path

    def partial_shards(self) -> Iterator[Path]:
        """Yield the folders of half-written and half-deleted shards, of living and dead runs."""
        for folder in self._collections():
            yield from self._folders(folder, _PART_NAME)

    def collection(self, key: str, fields: tuple[Field, ...]) -> Collection:
        """Return the intact rows of a collection.

        Damaged shards are deleted. Shards that cannot be read, for lack of permission for example,
        are skipped.
        """
        collection = Collection(fields)
        for path in self.shards(key):
            try:
                shard = Shard.load(path)
                if shard.fields != fields:
                    raise DamagedShardError(f"its fields are {shard.fields}, expected {fields}")
                shard.verify(self._verification_progress(path))
                collection.add(shard)
            except DamagedShardError as error:
                self._reporter.line(f"cache  damaged, will be computed again: {path} ({error})")
                self._delete(path)
            except FileNotFoundError:
                continue  # Another process has deleted it meanwhile.
            except OSError as error:
                self._report_skipped("cannot be read", path, error)
            else:
                shard.mark_used()
        self._opened.append(collection)
        return collection

    def close(self) -> None:
        """Close the collections that were opened.

        Dropping references is not enough: TensorFlow keeps functions called from a graph, such as
        those of `tf.numpy_function`, alive until the process ends.
        """
        for collection in self._opened:
            collection.close()
        self._opened.clear()

    def writer(self, key: str, fields: tuple[Field, ...], about: Mapping[str, Any]) -> ShardWriter:
        """Return the writer of a new shard.

        Raises:
          OSError: If the folder cannot be written.
        """
        self._sweep()
        return ShardWriter(self.folder / key, fields, about)

    def delete(self, key: str) -> None:
        """Delete a collection. This store ignores shards that cannot be deleted from then on."""
        for path in self.shards(key):
            self._delete(path)

    def free(self) -> int:
        """Return the free bytes on the file system of the folder; 0 if unknown."""
        for path in (self.folder, *self.folder.parents):
            with contextlib.suppress(OSError):  # It does not exist yet, or may not be read.
                return shutil.disk_usage(path).free
        return 0

    def prune(self, most: int) -> list[Path]:
        """Delete the least recently used shards until at most `most` bytes are left.

        Damaged shards are deleted in any case. Shards that are being written do not count.

        Returns:
          The folders of the deleted shards.
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
                self._report_skipped("cannot be read", path, error)
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

    def _folders(self, folder: Path, pattern: re.Pattern[str]) -> list[Path]:
        """Return the subfolders whose name matches, sorted; none if `folder` does not exist."""
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if folder not in self._skipped:
                self._skipped.add(folder)
                self._report_skipped("cannot be read", folder, error)
            return []
        return [folder / name for name in sorted(names) if pattern.fullmatch(name)]

    def _delete(self, path: Path) -> bool:
        try:
            delete_shard(path)
        except OSError as error:
            self._skipped.add(path)
            self._report_skipped("cannot be deleted", path, error)
            return False
        return True

    def _sweep(self) -> None:
        """Delete half-written shards left behind by dead processes."""
        for path in self.partial_shards():
            with contextlib.suppress(OSError):  # Its own process has just finished it.
                newest = max(file.stat().st_mtime for file in (path, *path.iterdir()))
                if time.time() - newest > _ABANDONED_AFTER:
                    shutil.rmtree(path, ignore_errors=True)

    def _report_skipped(self, fault: str, path: Path, error: OSError) -> None:
        reason = error.strerror or str(error)
        self._reporter.line(f"cache  {fault}, skipped: {path} ({reason})")

    def _verification_progress(self, path: Path) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            share = done / max(total, 1)
            self._reporter.progress(f"verifying cached features {path.name[:8]} {share:.0%}")

        return report


def store_folder(configured: str | None = None) -> Path:
    """Return the cache folder: the configured one, $SFT_KERAS_CACHE, or the default.

    Args:
      configured: `store.folder` of a recipe.

    Raises:
      RecipeError: If the path begins with ~ and there is no such home folder.
    """
    chosen = configured or os.environ.get("SFT_KERAS_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(chosen) if chosen else base / "sft_keras"
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise RecipeError(
            f"The cache folder {str(folder)!r} needs a home folder, which cannot be determined: "
            f"{error} Set `store.folder` or the environment variable SFT_KERAS_CACHE to a folder."
        ) from error
