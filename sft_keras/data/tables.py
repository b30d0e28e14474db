"""Read tables from disk: CSV, TSV, JSON lines and Parquet. Does not import TensorFlow."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from sft_keras.core.errors import DataError
from sft_keras.data.listing import parse_split_name
from sft_keras.data.split_files import find_split_files, parse_json

Row = dict[str, Any]
"""{column: value}; None for a missing value."""


def read_tables(kind: str, path: str) -> dict[str, list[Row]]:
    """Return the rows of a table, or of a folder with a table per split.

    Args:
      kind: "csv", "tsv", "jsonl" or "parquet".
      path: A file; or a folder with files such as train.csv, val.csv and test.csv.

    Returns:
      {split: rows}; the rows of a single file are "train".

    Raises:
      DataError: If the table does not exist or cannot be read.
    """

    def find(folder: Path) -> dict[str, Path]:
        files = {parse_split_name(file.stem): file for file in sorted(folder.glob(f"*.{kind}"))}
        return {split: file for split, file in files.items() if split is not None}

    files = find_split_files(f"{kind}:{path}", find, f"a train.{kind}")
    return {split: _rows(kind, file) for split, file in files.items()}


def _rows(kind: str, file: Path) -> list[Row]:
    readers: dict[str, Callable[[Path], list[Row]]] = {
        "csv": lambda file: _delimited(file, ","),
        "tsv": lambda file: _delimited(file, "\t"),
        "jsonl": lambda file: list(_json_lines(file)),
        "parquet": _parquet,
    }
    try:
        return readers[kind](file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} must be a {kind.upper()} file in UTF-8. It cannot be read: {error}. "
            "Save it in this format and encoding."
        ) from error


def _delimited(file: Path, delimiter: str) -> list[Row]:
    # The whole file may be one text, and by default the reader refuses texts of 128 kB.
    csv.field_size_limit(max(csv.field_size_limit(), file.stat().st_size))
    # "utf-8-sig", because spreadsheets put a byte order mark before the first column's name.
    with file.open(encoding="utf-8-sig", newline="") as opened:
        # In TSV a value never contains a tab, so quotes are ordinary characters.
        quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        reader = csv.DictReader(opened, delimiter=delimiter, quoting=quoting, strict=True)
        columns = [(name or "").strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = list(reader)
    for number, row in enumerate(rows, 2):
        if None in row:
            raise DataError(
                f"{file}: row {number} (the header is row 1) has more values than the "
                f"{len(row) - 1} columns {', '.join(columns)}. Put texts that contain "
                f"{delimiter!r} in quotes."
            )
    return rows


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as opened:
        for number, line in enumerate(opened, 1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{file}: line {number} must be a JSON object. It is not JSON: {error}."
                ) from error
            if not isinstance(row, dict):
                raise DataError(
                    f"{file}: line {number} must be a JSON object, such as "
                    f'{{"text": "...", "label": "..."}}. Received: {line.strip()[:80]}.'
                )
            yield row


def _parquet(file: Path) -> list[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise DataError(
            f"Reading {file} requires pyarrow. Install it: pip install pyarrow."
        ) from error
    try:
        return parquet.read_table(file).to_pylist()
    except ArrowInvalid as error:
        raise DataError(f"{file} must be a Parquet file. It cannot be read: {error}.") from error
