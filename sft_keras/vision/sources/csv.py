"""A table of image files and their classes: "csv:PATH"."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.listing import Listing, known_split_names, parse_split_name, preview
from sft_keras.data.split_files import outside_faults
from sft_keras.data.streams import file_part
from sft_keras.recipe.section import did_you_mean
from sft_keras.vision.conversion import in_stream


def list_csv(path: str, outside: bool = False) -> Listing:
    """List the rows of a CSV file with the columns path, label and, optionally, split.

    Paths are relative to the CSV file's folder, or absolute. The classes are the distinct labels,
    sorted.

    Args:
      path: The CSV file, UTF-8, with or without a byte order mark.
      outside: Whether paths may lead out of its folder.

    Raises:
      DataError: If the file does not exist or is not such a table.
    """
    table = Path(path).expanduser()
    rows, has_splits = _read(table)
    faults = []
    unlabelled = [number for number, row in enumerate(rows, 2) if not row["label"]]
    if unlabelled:
        faults.append(f"Rows without a label: {preview(unlabelled)} (the header is row 1).")
    repeated = [name for name, count in Counter(row["path"] for row in rows).items() if count > 1]
    if repeated:
        faults.append(
            f"{len(repeated)} paths are listed more than once, so one image could be in two "
            f"splits: {preview(repeated)}. List each once."
        )
    splits = [parse_split_name(row["split"]) if has_splits else "train" for row in rows]
    unknown = sorted({row["split"] for row, split in zip(rows, splits) if split is None})
    if unknown:
        faults.append(
            f"The column 'split' must hold one of {known_split_names()}. "
            f"Received: {preview([repr(word) for word in unknown])}."
        )
    files = [table.parent / row["path"] for row in rows]
    exists = [_is_file(file) for file in files]
    missing = [row["path"] for row, is_file in zip(rows, exists) if not is_file]
    if missing:
        faults.append(
            f"{len(missing)} files do not exist: {preview(missing)}. Paths are relative to "
            f"{table.parent.absolute()}."
        )
    existing = [file for file, is_file in zip(files, exists) if is_file]
    faults += [] if outside else outside_faults(existing, table.parent)
    class_names = tuple(sorted({row["label"] for row in rows if row["label"]}))
    label_of = {name: label for label, name in enumerate(class_names)}
    parts = {}
    for split in dict.fromkeys(filter(None, splits)):
        selected = [
            (row, file)
            for row, file, row_split in zip(rows, files, splits)
            if row_split == split and row["label"]
        ]
        parts[split] = file_part(
            [row["path"] for row, _ in selected],
            [str(file) for _, file in selected],
            np.array([label_of[row["label"]] for row, _ in selected], np.int64),
            convert=in_stream,
        )
    return Listing(class_names, parts, tuple(faults))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL in it
        return False


def _read(table: Path) -> tuple[list[dict[str, str]], bool]:
    """Return the rows, with values stripped, and whether there is a split column."""
    if not table.is_file():
        raise DataError(
            f"`data.source` must name an existing CSV file. Received: 'csv:{table}', "
            f"which is {table.absolute()}."
        )
    try:
        # "utf-8-sig", because spreadsheets put a byte order mark before the first column's name.
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{table} must be a CSV file in UTF-8. It cannot be read: {error}. "
            "Save it in this format and encoding."
        ) from error
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        hints = "".join(did_you_mean(name, columns) for name in missing)
        raise DataError(
            f"{table} must have the columns path, label and, optionally, split. "
            f"Missing: {', '.join(missing)}. Received: {', '.join(columns) or 'none'}.{hints}"
        )
    kept = [name for name in ("path", "label", "split") if name in columns]
    return [{name: row[name].strip() for name in kept} for row in rows], "split" in columns
