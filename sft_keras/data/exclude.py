"""Examples that the user has chosen to exclude. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sft_keras.core.errors import DataError
from sft_keras.data.listing import preview
from sft_keras.recipe.section import did_you_mean

_MAX_SUGGESTED_FROM = 10_000  # ids; comparing the spelling of more takes too long


def read_excluded_ids(path: str | None) -> frozenset[str]:
    """Return the ids listed in a file, one per line; blank lines and "#" comments are skipped.

    Args:
      path: A UTF-8 text file, or a folder of such files, *.txt; None to exclude nothing.

    Raises:
      DataError: If the file cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        root = Path(path).expanduser()
        files = sorted(root.glob("*.txt")) if root.is_dir() else [root]
        lines = [
            line for file in files for line in file.read_text(encoding="utf-8-sig").splitlines()
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"`data.exclude` cannot be read: {path!r} ({error}).") from error
    return frozenset(line for line in lines if line.strip() and not line.startswith("#"))


def require_known_ids(excluded: frozenset[str], ids: Iterable[str]) -> None:
    """Raise a `DataError` if an excluded id does not exist: the list belongs to other data then."""
    known = set(ids)
    unknown = sorted(excluded - known)
    if unknown:
        hint = did_you_mean(unknown[0], known) if len(known) < _MAX_SUGGESTED_FROM else ""
        raise DataError(
            "`data.exclude` must list ids of examples in the source. Unknown ids: "
            f"{preview(unknown)}.{hint}"
        )
