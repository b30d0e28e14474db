"""The output of `python -m sft_keras.cache`: the table of shards, verification and pruning."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from sft_keras.cache.disk import DiskStore
from sft_keras.cache.shard import DamagedShardError, Shard
from sft_keras.core.errors import RecipeError

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_HEADINGS = ("what", "rows", "size", "dtype", "last used", "state", "shard")
_RIGHT_ALIGNED = ("rows", "size")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A shard's folder, damaged or not.

    Attributes:
      path: Folder of the shard.
      size: Bytes on disk.
      shard: Its description; None if it cannot be read.
      fault: What is wrong according to the description and the file sizes; "" if nothing is.
    """

    path: Path
    size: int
    shard: Shard | None = None
    fault: str = ""

    @property
    def what(self) -> str:
        """What the shard holds: backbone and boundary."""
        if self.shard is None:
            return "?"
        about = self.shard.about
        views = ", augmented views" if "rows" in about else ""
        return f"{about.get('backbone', '?')} up to {about.get('boundary', '?')}{views}"

    @property
    def used(self) -> float:
        """Time of last use, in seconds since the epoch; 0 if unknown."""
        return 0.0 if self.shard is None else self.shard.used

    @property
    def label(self) -> str:
        """Abbreviated path."""
        return f"{self.path.parent.name[:8]}/{self.path.name[:8]}"


def parse_size(text: str) -> int:
    """Return a size such as "10GB" in bytes.

    Raises:
      RecipeError: If `text` is not a size.

    Example:
      >>> parse_size("1.5 kB")
      1500
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    if match is not None:
        number, unit = Decimal(match[1]), match[2].lower()
        if unit in units or (number == 0 and not unit):
            return int(number * units.get(unit, 1))
    raise RecipeError(
        "--prune must be a size: a number and one of the units "
        f"{', '.join(_UNITS)} (1 kB is 1000 bytes), such as 10GB; 0 deletes everything. "
        f"Received: {text!r}."
    )


def as_size(count: int) -> str:
    """Return a number of bytes in the largest unit that fits, such as "2.3 GB"."""
    factor, unit = max(
        ((factor, unit) for unit, factor in _UNITS.items() if count >= factor), default=(1, "B")
    )
    return f"{count} B" if unit == "B" else f"{count / factor:.1f} {unit}"


def table(store: DiskStore) -> Iterator[str]:
    """Yield the lines of a table of all shards, most recently used first, and a summary."""
    entries = _entries(store)
    if entries:
        yield from _aligned([_HEADINGS, *map(_cells, entries)])
        yield ""
    yield f"{_amount(entries) if entries else 'Nothing is stored'} in {store.folder}"
    partial = list(store.partial_shards())
    if partial:
        size = sum(map(_size_of, partial))
        yield f"{len(partial)} half-written, {as_size(size)}: by a run that is active, or died"


def verified(store: DiskStore) -> Iterator[tuple[Entry, str]]:
    """Read every shard; yield it and what is wrong with it, "" if nothing is."""
    for entry in _entries(store):
        fault = entry.fault
        if entry.shard is not None:
            try:
                entry.shard.verify()
            except DamagedShardError as error:
                fault = f"damaged: {error}"
            except FileNotFoundError:
                continue  # A run has deleted it meanwhile.
            except OSError as error:
                fault = _unreadable(error)
        yield entry, fault


def prune(store: DiskStore, most: int) -> Iterator[str]:
    """Delete the least recently used shards until at most `most` bytes are left; yield a log."""
    before = {entry.path: entry for entry in _entries(store)}
    deleted = [before[path] for path in store.prune(most) if path in before]
    for entry in deleted:
        reason = entry.fault or f"last used {_moment(entry.used)}"
        yield f"{entry.label}  {entry.what}  {as_size(entry.size)}  {reason}"
    left = _amount(_entries(DiskStore(store.folder)))  # includes what could not be deleted
    yield f"Deleted: {_amount(deleted)}. Left: {left} in {store.folder}"


def _entries(store: DiskStore) -> list[Entry]:
    entries = []
    for path in store.shards():
        with contextlib.suppress(FileNotFoundError):  # A run has deleted it meanwhile.
            entries.append(_entry(path))
    return sorted(entries, key=lambda entry: entry.used, reverse=True)


def _entry(path: Path) -> Entry:
    try:
        shard = Shard.load(path)
    except DamagedShardError as error:
        return Entry(path, _size_of(path), fault=f"damaged: {error}")
    except FileNotFoundError:
        raise
    except OSError as error:
        return Entry(path, _size_of(path), fault=_unreadable(error))
    return Entry(path, shard.size, shard)


def _cells(entry: Entry) -> tuple[str, ...]:
    size = as_size(entry.size)
    if entry.shard is None:
        return (entry.what, "?", size, "?", "?", entry.fault, entry.label)
    return (
        entry.what,
        f"{entry.shard.count:,}",
        size,
        _dtypes(entry.shard),
        _moment(entry.used),
        "ok",
        entry.label,
    )


def _dtypes(shard: Shard) -> str:
    """Return the dtypes of the boundary's tensors, without targets stored beside them."""
    # A field stores bfloat16 as uint16; the human-readable description names the real dtype.
    stored = shard.about.get("stored") or [[field.dtype] for field in shard.fields]
    return ", ".join(dict.fromkeys(str(dtype) for dtype, *_ in stored))


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [
            cell.rjust(width) if heading in _RIGHT_ALIGNED else cell.ljust(width)
            for heading, cell, width in zip(_HEADINGS, row, widths)
        ]
        yield "  ".join(cells).rstrip()


def _amount(entries: Iterable[Entry]) -> str:
    sizes = [entry.size for entry in entries]
    if not sizes:
        return "nothing"
    return f"{len(sizes)} shard{'s' * (len(sizes) > 1)}, {as_size(sum(sizes))}"


def _size_of(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):  # It is being deleted, or may not be read.
            total += file.stat().st_size
    return total


def _moment(used: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(used))


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
