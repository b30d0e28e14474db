"""What lies in the cache, in words: the lines that `python -m sft_keras.cache` prints."""

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
_TO_THE_RIGHT = ("rows", "size")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A shard, or what is in its place.

    Attributes:
      path: Its folder.
      size: Bytes on disk.
      shard: Its description; None if that cannot be had.
      fault: What is wrong with it, as far as its description and the lengths of its files tell;
        "" for nothing.
    """

    path: Path
    size: int
    shard: Shard | None = None
    fault: str = ""

    @property
    def what(self) -> str:
        """What was computed."""
        if self.shard is None:
            return "?"
        about = self.shard.about
        views = ", augmented views" if "rows" in about else ""
        return f"{about.get('backbone', '?')} up to {about.get('boundary', '?')}{views}"

    @property
    def used(self) -> float:
        """When it was last used, in seconds since 1970; 0 if that is not known."""
        return 0.0 if self.shard is None else self.shard.used

    @property
    def label(self) -> str:
        """Where it is, in short."""
        return f"{self.path.parent.name[:8]}/{self.path.name[:8]}"


def parse_size(text: str) -> int:
    """Returns the number of bytes that a size such as "10GB" stands for.

    Raises:
      RecipeError: If it is no such size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    if match is not None:
        number, unit = Decimal(match[1]), match[2].lower()
        if unit in units or (number == 0 and not unit):
            return int(number * units.get(unit, 1))
    raise RecipeError(
        "--prune must be a size: a number and one of the units "
        f"{', '.join(_UNITS)} (1 kB is 1000 bytes), such as 10GB; 0 deletes all. "
        f"Received: {text!r}."
    )


def as_size(count: int) -> str:
    """Returns a number of bytes in a unit that leaves few digits."""
    unit = max((each for each in _UNITS if count >= _UNITS[each]), key=_UNITS.get, default="B")
    return f"{count} B" if unit == "B" else f"{count / _UNITS[unit]:.1f} {unit}"


def table(store: DiskStore) -> Iterator[str]:
    """Yields the lines of a table of all shards, used last first, and where and how much it is."""
    entries = _entries(store)
    if entries:
        yield from _aligned([_HEADINGS, *map(_cells, entries)])
        yield ""
    yield f"{_amount(entries) if entries else 'Nothing is stored'} in {store.folder}"
    parts = list(store.parts())
    if parts:
        size = sum(map(_size_of, parts))
        yield f"{len(parts)} half-written, {as_size(size)}: by a run that goes on, or has died"


def verified(store: DiskStore) -> Iterator[tuple[Entry, str]]:
    """Reads everything; yields each shard with what is wrong with it, "" for nothing."""
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
    """Deletes what was used longest ago until at most `most` bytes are left; yields what it did."""
    before = {entry.path: entry for entry in _entries(store)}
    deleted = [before[path] for path in store.prune(most) if path in before]
    for entry in deleted:
        reason = entry.fault or f"last used {_moment(entry.used)}"
        yield f"{entry.label}  {entry.what}  {as_size(entry.size)}  {reason}"
    left = _amount(_entries(DiskStore(store.folder)))  # also what could not be deleted
    yield f"Deleted: {_amount(deleted)}. Left: {left} in {store.folder}"


def _entries(store: DiskStore) -> list[Entry]:
    found = []
    for path in store.shards():
        with contextlib.suppress(FileNotFoundError):  # A run has deleted it meanwhile.
            found.append(_entry(path))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


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
        "whole",
        entry.label,
    )


def _dtypes(shard: Shard) -> str:
    """Returns the dtypes of the boundary's tensors, not of targets stored beside them."""
    # The description for people knows bfloat16, which a field calls uint16.
    stored = shard.about.get("stored") or [[field.dtype] for field in shard.fields]
    return ", ".join(dict.fromkeys(str(dtype) for dtype, *_ in stored))


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [
            cell.rjust(width) if heading in _TO_THE_RIGHT else cell.ljust(width)
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
        with contextlib.suppress(OSError):  # It is just being deleted, or may not be looked at.
            total += file.stat().st_size
    return total


def _moment(used: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(used))


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
