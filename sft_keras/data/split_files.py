"""Sources that store each split in a file of its own. Does not import TensorFlow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.listing import preview
from sft_keras.data.split_names import find_split_name

_SKIPPED = re.compile(
    r"^(\.|#.*#$|__MACOSX$)|(~|\.(bak|backup|orig|old|tmp|sw[op]))$", re.IGNORECASE
)


def find_split_files(
    source: str, find: Callable[[Path], Mapping[str, Path]], requirement: str
) -> dict[str, Path]:
    """Return the files of a source by split; a single file is the "train" split.

    Args:
      source: The source as the recipe names it, "KIND:PATH".
      find: Returns the split files in a folder.
      requirement: What a folder must contain for training, in words.

    Raises:
      DataError: If the path does not exist, or the folder has no training file.
    """
    path = Path(source.partition(":")[2]).expanduser()
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise DataError(
            "`data.source` must name an existing file, or a folder of files. Received: "
            f"{source!r}, which is {path.absolute()}."
        )
    files = dict(find(path))
    if "train" not in files:
        entries = ", ".join(entry.name for entry in sorted(path.iterdir())[:10]) or "nothing"
        raise DataError(f"{source!r} must have {requirement}. {path.absolute()} holds {entries}.")
    return files


def usable_entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the entries of a folder in order of their names: those to read, and the others.

    Hidden entries, backups of editors and folders of metadata are not to be read.
    """
    entries = sorted(folder.iterdir())
    skipped = [entry for entry in entries if _SKIPPED.search(entry.name)]
    return [entry for entry in entries if entry not in skipped], skipped


def skipped_note(skipped: Sequence[Path], folder: Path) -> list[str]:
    """Return a sentence on the entries that are not read, in a list; empty if there are none."""
    if not skipped:
        return []
    names = preview([entry.relative_to(folder).as_posix() for entry in skipped])
    noun = "1 file" if len(skipped) == 1 else f"{len(skipped)} files"
    return [f"Skipped {noun} of {folder.name} as hidden, backups or of another kind: {names}."]


def split_tables(folder: Path, ending: str, unread: list[str]) -> dict[str, Path]:
    """Return the file of each split in a folder, named after it, as in "reviews_train.csv".

    A folder with a single file is read as the training split, whatever its name.

    Args:
      folder: The folder.
      ending: The files' ending, without a dot.
      unread: Receives the names of files that are in no split.

    Raises:
      DataError: If two files are named after one split.
    """
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() == f".{ending}" and file.name[0] != "." and file.is_file()
    ]
    names = {file: find_split_name(file.stem) for file in files}
    if len(files) == 1 and names[files[0]] is None:
        return {"train": files[0]}
    splits: dict[str, Path] = {}
    for split in ("train", "validation", "test"):
        named = [file for file, name in names.items() if name is not None and name.split == split]
        # "test_labels.csv" beside "test.csv" is something else.
        certain = [file for file in named if names[file].is_certain]  # type: ignore[union-attr]
        candidates = certain or named
        if len(candidates) > 1:
            raise DataError(
                f"{folder} must have one file per split. Received for {split}: "
                f"{', '.join(file.name for file in candidates)}. Join them, or move those that are "
                "not to be read elsewhere."
            )
        splits |= {split: candidates[0]} if candidates else {}
    unread += [file.name for file in files if file not in splits.values()]
    return splits


def outside_faults(paths: Iterable[Path], root: Path) -> list[str]:
    """Return a sentence on paths that lead out of a folder: absolute, by `..` or by links.

    Otherwise an untrusted data set could expose unrelated files in a report.

    Args:
      paths: Files or folders.
      root: The folder.
    """
    real_root = os.path.realpath(root)
    outside = [path for path in paths if not _is_in(os.path.realpath(path), real_root)]
    if not outside:
        return []
    return [
        f"{len(outside)} paths lead out of {root.absolute()}: {preview(outside)}. If they are "
        "intended, allow them with --set=data.outside=true."
    ]


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
      ValueError: If the text is not JSON, has a number of thousands of digits, or a lone surrogate
        such as "\\ud83d", which has no UTF-8 encoding and cannot be stored in a tensor.
      RecursionError: If lists are nested too deeply.
    """
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value
