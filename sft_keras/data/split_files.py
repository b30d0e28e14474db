"""The files of a source that has one for each split. Does not import TensorFlow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.listing import preview


def find_split_files(
    source: str, find: Callable[[Path], Mapping[str, Path]], wanted: str
) -> dict[str, Path]:
    """Returns the files of a source by split; a single file is that of "train".

    Args:
      source: As the recipe says it, "KIND:PATH".
      find: Returns what a folder has for each split.
      wanted: What it must have for training, in words.

    Raises:
      DataError: If there is nothing at the path, or nothing for training.
    """
    place = Path(source.partition(":")[2]).expanduser()
    if place.is_file():
        return {"train": place}
    if not place.is_dir():
        raise DataError(
            "`data.source` must name a file, or a folder of files, that exists. Received: "
            f"{source!r}, which is {place.absolute()}."
        )
    found = dict(find(place))
    if "train" not in found:
        there = ", ".join(entry.name for entry in sorted(place.iterdir())[:10]) or "nothing"
        raise DataError(f"{source!r} must have {wanted}. {place.absolute()} holds {there}.")
    return found


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
        f"{len(outside)} paths lead out of {root.absolute()}: {preview(outside)}. If they are "
        "meant, allow it with --set=data.outside=true."
    ]


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def parse_json(text: str) -> Any:
    """Returns what a text in JSON says.

    Raises:
      ValueError: If it is no JSON, has a number of thousands of digits, or a "\\ud83d" that is half
        of a character, which is in no UTF-8 and so in no tensor.
      RecursionError: If lists lie in lists too deep.
    """
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value
