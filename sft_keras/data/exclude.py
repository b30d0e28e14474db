"""Examples that a person has chosen to leave out. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sft_keras.core.errors import DataError
from sft_keras.data.listing import preview
from sft_keras.recipe.section import did_you_mean


def read_excluded_ids(path: str | None) -> frozenset[str]:
    """Returns the ids that a file names, one a line.

    Raises:
      DataError: If it cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"`data.exclude` cannot be read: {path!r} ({error}).") from error
    return frozenset(line for line in lines if line.strip() and not line.startswith("#"))


def require_known_ids(excluded: frozenset[str], ids: Iterable[str]) -> None:
    """Raises a `DataError` if some of what is excluded is not there: it is of other data then."""
    known = set(ids)
    unknown = sorted(excluded - known)
    if unknown:
        raise DataError(
            "`data.exclude` must hold ids of examples of the source. Not there: "
            f"{preview(unknown)}.{did_you_mean(unknown[0], known) if len(known) < 10_000 else ''}"
        )
