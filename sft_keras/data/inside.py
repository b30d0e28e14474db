"""Files that lie outside of the folder they are said to be in. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sft_keras.data.listing import shown


def outside_faults(paths: Iterable[Path], root: Path) -> list[str]:
    """Returns a sentence on paths that lead out of a folder: absolute, by `..` or by links.

    A data set from a stranger could otherwise show, in a report, files that are none of its own.

    Args:
      paths: Of files or folders.
      root: The folder.
    """
    real = os.path.realpath(root)
    outside = [path for path in paths if not _is_in(os.path.realpath(path), real)]
    if not outside:
        return []
    return [
        f"{len(outside)} paths lead out of {root.absolute()}: {shown(outside)}. If they are meant, "
        "allow it with --set=data.outside=true."
    ]


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
