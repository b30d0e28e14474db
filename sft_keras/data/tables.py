"""Read tables from disk: CSV, TSV, JSON lines and Parquet. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.delimited import parse_delimited
from sft_keras.data.encodings import is_undecoded, likely_encoding, read_text
from sft_keras.data.listing import preview
from sft_keras.data.split_files import find_split_files, parse_json, split_tables
from sft_keras.recipe.data import TABS, Data

_EXPECTED = {"csv": ",", "tsv": "\t"}
_SHOWN = 80  # characters of a line in a message


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
      reason: To finish "3 examples ...": "with too many values".
      shown: What the row holds, truncated.
      hint: What to do about it.
    """

    reason: str
    shown: str
    hint: str = ""


@dataclasses.dataclass
class Table:
    """The rows of one file.

    Attributes:
      file: The file.
      columns: Names of the columns; unnamed ones are called "column 2".
      rows: The values of each row in the order of the columns, None for missing ones; a row may be
        shorter than the header.
      lines: The line in which each row starts, from 1; or the number of the row.
      notes: Sentences on how the file was read.
      header: The values of the first line as they are in a delimited file, which may be an example
        if the table has no header; None for other files.
      is_delimited: Whether all values are text.
      unit: What `lines` counts: "line" or "row".
    """

    file: Path
    columns: tuple[str, ...]
    rows: list[Sequence[Any] | BadRow]
    lines: Sequence[int]
    notes: list[str] = dataclasses.field(default_factory=list)
    header: list[str] | None = None
    is_delimited: bool = False
    unit: str = "line"

    def without_header(self) -> Table:
        """Return the table with its first line as an example, and columns without names."""
        header = self.header or []
        return dataclasses.replace(
            self,
            columns=column_names([""] * len(header)),
            rows=[header, *self.rows],
            lines=[1, *self.lines],
            header=None,
        )

    def place(self, number: int) -> str:
        """Return where a row is, for messages: "line 12"."""
        return f"{self.unit} {self.lines[number]}"


def read_tables(
    data: Data, names: Collection[str], notes: list[str] | None = None
) -> dict[str, Table]:
    """Return the table of a source, or of each split in a folder.

    Args:
      data: The recipe's data section; its source is "csv:PATH", "tsv:PATH", "jsonl:PATH" or
        "parquet:PATH", where PATH is a file, or a folder with files such as train.csv and test.csv.
      names: Names that the columns should have.
      notes: Receives sentences on files that are not read.

    Returns:
      {split: table}; a single file is "train".

    Raises:
      DataError: If the table does not exist or cannot be read.
    """
    if not isinstance(data.source, str):
        raise TypeError(f"The source of a table must be a string. Received: {data.source!r}.")
    kind = data.source.partition(":")[0]
    unread: list[str] = []
    files = find_split_files(
        data.source, lambda folder: split_tables(folder, kind, unread), f"a train.{kind}"
    )
    if unread and notes is not None:
        notes.append(f"Files beside the splits were not read: {preview(unread)}.")
    return {split: read_table(kind, file, data, names) for split, file in files.items()}


def read_table(kind: str, file: Path, data: Data, names: Collection[str]) -> Table:
    """Return the table in a file.

    Args:
      kind: "csv", "tsv", "jsonl" or "parquet".
      file: The file.
      data: Its delimiter and encoding.
      names: Names that the columns should have.

    Raises:
      DataError: If the file cannot be read.
    """
    if kind in _EXPECTED:
        return _delimited(file, data, _EXPECTED[kind], names)
    if kind == "jsonl":
        return _json_lines(file, read_text(file, data.encoding, partly=True))
    return _parquet(file)


def _delimited(file: Path, data: Data, expected: str, names: Collection[str]) -> Table:
    text = read_text(file, data.encoding, partly=True)
    delimiter = "\t" if data.delimiter in TABS else data.delimiter
    parsed = parse_delimited(text, delimiter, expected, names)
    notes = [f"{file.name} {note}." for note in parsed.notes]
    if not parsed.rows:
        return Table(file, (), [], [], notes)
    (_, header), *rows = parsed.rows
    if any(map(is_undecoded, header)):
        read_text(file, data.encoding)  # raises
    if _has_row_names(header, [values for _, values in rows]):
        header = ["", *header]  # row names, for which R writes no column name
        notes.append(f"The first column of {file.name} has no name, so it was not used.")
    hint = likely_encoding(file.read_bytes()) if is_undecoded(text) else None
    return Table(
        file,
        column_names(header),
        [
            _checked(values, header, parsed.delimiter, parsed.unclosed.get(line), hint)
            for line, values in rows
        ],
        [line for line, _ in rows],
        notes,
        header,
        is_delimited=True,
    )


def _has_row_names(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether rows begin with a number for which the header has no name."""
    return len(rows) > 1 and all(
        len(values) == len(header) + 1 and values[0].strip().isdecimal() for values in rows
    )


def column_names(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a header, stripped; unnamed columns are numbered, from 0."""
    return tuple(name.strip() or f"column {position}" for position, name in enumerate(header))


def _checked(
    values: list[str], header: list[str], delimiter: str, ends: int | None, encoding: str | None
) -> list[str] | BadRow:
    """Return the values of a row, or what is wrong with it."""
    shown = _shorten(delimiter.join(values))
    if ends is not None:
        return BadRow(
            "with a quote that is not closed in its place",
            f"up to line {ends}, {shown}",
            "Close the quote, or write it twice within a quoted value.",
        )
    if encoding is not None and any(map(is_undecoded, values)):
        readable = delimiter.join(values).encode(errors="surrogateescape")
        shown = _shorten(readable.decode(encoding, errors="replace"))
        return BadRow(
            "that are not in UTF-8",
            shown,
            f"The file may be in {encoding}: --set=data.encoding={encoding}.",
        )
    if values == header:
        return BadRow("that repeat the header", shown)
    if any(map(str.strip, values[len(header) :])):
        columns = ", ".join(name.strip() for name in header)
        return BadRow(
            "with too many values",
            f"{len(values)} values, {shown}",
            f"There are {len(header)} columns: {_shorten(columns)}. "
            f"Put texts that contain {delimiter!r} in quotes.",
        )
    return values[: len(header)]


def _shorten(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _json_lines(file: Path, text: str) -> Table:
    rows = _json_array(text) if text.lstrip()[:1] == "[" else None
    lines: list[int] = []
    if rows is None:
        numbered = enumerate(io.StringIO(text, newline=None), 1)
        objects = [(number, _json_object(line)) for number, line in numbered if line.strip()]
        lines, rows = [number for number, _ in objects], [row for _, row in objects]
    columns = tuple(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    table_rows = [
        [row.get(column) for column in columns] if isinstance(row, dict) else row for row in rows
    ]
    if lines:
        return Table(file, columns, table_rows, lines)
    return Table(file, columns, table_rows, range(1, len(rows) + 1), unit="row")


def _json_object(line: str) -> Any:
    if is_undecoded(line):
        return BadRow("that are not in UTF-8", _shorten(line.encode(errors="replace").decode()))
    hint = 'Each line must be a JSON object, such as {"text": "...", "label": "..."}.'
    try:
        row = parse_json(line)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:_SHOWN]
        return BadRow("that are not JSON", f"{reason}: {_shorten(line.strip())}", hint)
    if not isinstance(row, dict):
        return BadRow("that are not JSON objects", _shorten(line.strip()), hint)
    return row


def _json_array(text: str) -> list[Any] | None:
    """Return the rows of a file that is one JSON list; None if it is not."""
    try:
        rows = parse_json(text)
    except (ValueError, RecursionError):
        return None  # one value per line, the first of which is a list
    return [
        row
        if isinstance(row, dict)
        else BadRow("that are not JSON objects", _shorten(str(row)[:_SHOWN]))
        for row in rows
    ]


def _parquet(file: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"Reading {file} requires pyarrow. Install it: pip install pyarrow."
        ) from error
    try:
        table = parquet.read_table(file)
        columns = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} must be a Parquet file. It cannot be read: {error}.") from error
    rows: list[Any] = list(map(list, zip(*columns)))
    names = tuple(table.column_names)
    return Table(file, names, rows, range(1, len(rows) + 1), unit="row")
