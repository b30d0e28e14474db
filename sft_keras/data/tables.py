"""Rows of tables on disk: CSV, TSV, JSON lines and Parquet. Does not import TensorFlow."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.listing import parse_split_name
from sft_keras.data.split_files import find_split_files, parse_json

Row = dict[str, Any]
"""A value by column; None where there is none."""


def read_tables(kind: str, path: str) -> dict[str, list[Row]]:
    """Returns the rows of a table, or of each split's in a folder of tables.

    Args:
      kind: "csv", "tsv", "jsonl" or "parquet".
      path: A file; or a folder with files such as train.csv, val.csv and test.csv.

    Returns:
      {split: rows}; of a file all are "train".

    Raises:
      DataError: If there is no such table, or it cannot be read.
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
            "Save it as such."
        ) from error


def _delimited(file: Path, delimiter: str) -> list[Row]:
    # The whole file may be one text, and by itself the reader refuses one of 128 kB.
    csv.field_size_limit(max(csv.field_size_limit(), file.stat().st_size))
    # "utf-8-sig", because spreadsheets put a byte order mark before the first column's name.
    with file.open(encoding="utf-8-sig", newline="") as opened:
        # Tabs stand between values and never in them: a quote there is only a quote.
        quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        reader = csv.DictReader(opened, delimiter=delimiter, quoting=quoting, strict=True)
        reader.fieldnames = [(name or "").strip() for name in reader.fieldnames or []]
        rows = list(reader)
    for number, row in enumerate(rows, 2):
        if None in row:
            raise DataError(
                f"{file}: row {number} (the first is 1) has more values than the {len(row) - 1} "
                f"columns {', '.join(reader.fieldnames)}. Put a text that holds {delimiter!r} "
                "in quotes."
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
                    f"{file}: line {number} must be a JSON object, as "
                    f'{{"text": "...", "label": "..."}}. Received: {line.strip()[:80]}.'
                )
            yield row


def _parquet(file: Path) -> list[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise DataError(
            f"{file} needs pyarrow to be read. Install it: pip install pyarrow."
        ) from error
    try:
        return parquet.read_table(file).to_pylist()
    except ArrowInvalid as error:
        raise DataError(f"{file} must be a Parquet file. It cannot be read: {error}.") from error
