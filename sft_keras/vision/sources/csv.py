"""Tables of image files and their classes: "csv:PATH"."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.columns import find_columns
from sft_keras.data.example_faults import ExampleFaults
from sft_keras.data.listing import Listing, Part, known_split_names, parse_split_name, preview
from sft_keras.data.split_files import outside_faults
from sft_keras.data.streams import file_part
from sft_keras.data.tables import BadRow, Table, read_tables
from sft_keras.recipe.data import Data
from sft_keras.recipe.section import did_you_mean
from sft_keras.vision.conversion import in_stream

_COLUMNS = {
    "image": (
        *("path", "image", "image_path", "img", "img_path", "file", "file_path", "filepath"),
        *("filename", "file_name", "id", "image_id", "image_name"),
    ),
    "label": ("label", "class", "category", "class_name", "label_name", "target", "species"),
    "split": ("split",),
}
"""{field of `data.columns`: names that its column may have, the first one preferred}."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One row: an image with its class.

    Attributes:
      name: The path as an id, without "." and with slashes.
      file: The file.
      root: The folder of the table.
      label: The class.
      split: The split as the table names it; "train" without a split column.
    """

    name: str
    file: Path
    root: Path
    label: str
    split: str


def list_csv(data: Data) -> Listing:
    """List the rows of a table of image files, or of one table per split in a folder.

    Paths are relative to the table's folder, or absolute; a path without an ending stands for the
    only file of that name. The classes are the distinct labels, sorted. Rows without a label are
    dropped and counted.

    Args:
      data: The recipe's data section; its source is "csv:PATH". `columns` may name the columns
        "image", "label" and "split"; otherwise common names are found.

    Raises:
      DataError: If a table does not exist or has no such columns.
    """
    faults = ExampleFaults(data)
    tables = read_tables(data, [names[0] for names in _COLUMNS.values()], faults.notes)
    entries: list[_Entry] = []
    for split, table in tables.items():
        faults.notes += table.notes
        entries += _read(table, data, split, faults)
    splits = {entry.split: parse_split_name(entry.split) for entry in entries}
    entries, conflicts = _without_repeats(entries, faults)
    unknown = sorted(word for word, split in splits.items() if split is None)
    sentences = [*faults.sentences(), *conflicts]
    if unknown:
        sentences.append(
            f"The column 'split' must hold one of {known_split_names()}. "
            f"Received: {preview([repr(word) for word in unknown])}."
        )
    if not data.outside:
        for root in {entry.root for entry in entries}:
            files = [entry.file for entry in entries if entry.root == root]
            sentences += outside_faults(files, root)
    class_names = tuple(sorted({entry.label for entry in entries}))
    parts = _parts(entries, splits, class_names)
    return Listing(class_names, parts, tuple(sentences), faults.facts(), frozenset(faults.ids))


def _parts(
    entries: Sequence[_Entry], splits: Mapping[str, str | None], class_names: Sequence[str]
) -> dict[str, Part]:
    label_of = {name: label for label, name in enumerate(class_names)}
    by_split: dict[str, list[_Entry]] = {}
    for entry in entries:
        split = splits[entry.split]
        if split is not None:
            by_split.setdefault(split, []).append(entry)
    return {
        split: file_part(
            [entry.name for entry in chosen],
            [str(entry.file) for entry in chosen],
            np.array([label_of[entry.label] for entry in chosen], np.int64),
            convert=in_stream,
        )
        for split, chosen in by_split.items()
    }


def _read(table: Table, data: Data, split: str, faults: ExampleFaults) -> list[_Entry]:
    """Return the usable rows of a table, and report the others."""
    columns = _find_columns(table, data)
    root, entries, completed = table.file.parent, [], 0
    files_by_stem = functools.cache(_files_by_stem)
    for number, row in enumerate(table.rows):
        place = table.place(number)
        if isinstance(row, BadRow):
            faults.add(row.reason, f"{table.file.name}, {place}", row.shown, hint=row.hint)
            continue
        values = {name: _value(row, position) for name, position in columns.items()}
        name = _normalized(values["image"])
        file = _locate(root, values["image"], files_by_stem)
        if file is not None and file.name != PurePosixPath(name).name:
            name += file.suffix
            completed += 1
        if not values["label"]:
            faults.drop("without a label", name, place)
        elif file is None:
            faults.add(
                "with a missing file",
                name,
                place,
                sentence="files do not exist",
                hint=f"Paths are relative to {root.absolute()}.",
            )
        else:
            entries.append(_Entry(name, file, root, values["label"], values.get("split") or split))
    if completed:
        faults.notes.append(f"{completed:,} paths of {table.file.name} lacked the file's ending.")
    return entries


def _find_columns(table: Table, data: Data) -> dict[str, int]:
    """Return the position of each field's column.

    Raises:
      DataError: If there is no column of images or of labels.
    """
    lowered = [name.lower() for name in table.columns]
    found: dict[str, int] = {}
    missing: list[str] = []
    for field, names in _COLUMNS.items():
        if field in data.columns:
            positions, absent = find_columns(data.columns[field], table.columns)
        else:
            positions = [lowered.index(name) for name in names if name in lowered]
            absent = [] if positions or field == "split" else [names[0]]
        missing += absent
        if positions:
            found[field] = positions[0]
    if missing:
        existing = ", ".join(table.columns) or "none"
        hints = "".join(did_you_mean(name, table.columns) for name in missing)
        raise DataError(
            f"{table.file} must have the columns path, label and, optionally, split, or "
            "`data.columns` must name the columns to use, for example "
            "--set=data.columns.image=photo --set=data.columns.label=kind. "
            f"Missing: {', '.join(missing)}. Received: {existing}.{hints}"
        )
    return found


def _value(row: Sequence[object], position: int) -> str:
    value = row[position] if position < len(row) else None
    return "" if value is None else str(value).strip()


def _without_repeats(
    entries: Sequence[_Entry], faults: ExampleFaults
) -> tuple[list[_Entry], list[str]]:
    """Return every file once, and a sentence on files with two labels or in two splits."""
    first: dict[str, _Entry] = {}
    labels: dict[str, list[str]] = {}
    splits: dict[str, list[str]] = {}
    for entry in entries:
        first.setdefault(entry.name, entry)
        if entry.name not in faults.excluded:
            labels.setdefault(entry.name, []).append(entry.label)
            splits.setdefault(entry.name, []).append(entry.split)
    sentences = []
    for values, noun in ((labels, "labels"), (splits, "splits")):
        several = {name: sorted(set(found)) for name, found in values.items()}
        shown = [f"{name} ({' and '.join(found)})" for name, found in several.items() if found[1:]]
        if shown:
            sentences.append(f"Files listed with different {noun}: {preview(shown)}.")
    repeated = len(entries) - len(first)
    if repeated and not sentences:
        faults.notes.append(f"{repeated:,} rows repeat a file and were read once.")
    return list(first.values()), sentences


def _locate(
    root: Path, path: str, files_by_stem: Callable[[Path], Mapping[str, Sequence[Path]]]
) -> Path | None:
    """Return the file that a table's path stands for, or None."""
    for written in dict.fromkeys((path, path.replace("\\", "/"))):
        file = root / written
        if _is_file(file):
            return file
    found = files_by_stem(file.parent).get(file.name, ()) if path else ()
    return found[0] if len(found) == 1 else None


def _files_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the visible files of a folder by their names without endings."""
    files: dict[str, list[Path]] = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix and not path.name.startswith(".") and path.is_file():
                files.setdefault(path.stem, []).append(path)
    except (OSError, ValueError):  # no such folder, or no valid name of one
        return {}
    return files


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL in it
        return False


def _normalized(path: str) -> str:
    return Path(os.path.normpath(path.replace("\\", "/"))).as_posix() if path else ""
