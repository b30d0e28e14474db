"""Rows of texts and labels from tables. Does not import TensorFlow."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.columns import find_columns, is_position, looks_like_header
from sft_keras.data.example_faults import ExampleFaults
from sft_keras.data.listing import preview
from sft_keras.data.split_names import find_split_name, known_split_names
from sft_keras.data.tables import BadRow, Table, read_tables
from sft_keras.recipe.data import Data
from sft_keras.recipe.section import did_you_mean
from sft_keras.text.cleaning import TextRow
from sft_keras.text.labels import UNKNOWN, is_missing

TABLES = ("csv", "tsv", "jsonl", "parquet")
_FIELDS = ("text", "text_pair", "label", "split")
# What pandas reads as missing, other than nothing at all.
_MISSING = frozenset(
    (
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "NaT", "None", "n/a", "nan", "null"),
    )
)
_TRUE, _FALSE = ("1", "1.0", "true"), ("0", "0.0", "false")
_UNKNOWN = ("", "-1", "-1.0", "nan")  # -1 marks labels that were withheld
_SHOWN = 60  # characters of a value in a message


def table_rows(data: Data, faults: ExampleFaults, labelled: bool) -> dict[str, list[TextRow]]:
    """Return the rows of a table by split.

    Args:
      data: The recipe's data section.
      faults: Receives rows that cannot be used, and notes on how the tables were read.
      labelled: Whether there must be a label column.

    Raises:
      DataError: If a table cannot be read or lacks a column.
    """
    always = ("text", "label") if labelled else ("text",)
    names = [str(data.columns.get(field, field)) for field in always]
    tables = read_tables(data, names, faults.notes)
    rows_by_split: dict[str, list[TextRow]] = {}
    for split, table in tables.items():
        faults.notes += table.notes
        table = _with_header_decided(table, data, always, faults)
        columns, missing = _columns(table, data, always)
        if split != "train" and columns["text"] and missing and not columns["label"] and labelled:
            faults.notes.append(
                f"{table.file.name} has no labels (no column "
                f"{', '.join(map(repr, missing))}), so it was dropped."
            )
            continue
        if missing and (table.columns or not table.rows):
            raise DataError(_missing_columns(table, data, always, missing))
        rows = _rows(split, table, columns, faults)
        if len(tables) == 1:
            return _by_split(table, rows, columns["split"], faults)
        rows_by_split[split] = [row for row in rows if row is not None]
    return rows_by_split


def _columns(
    table: Table, data: Data, always: Sequence[str]
) -> tuple[dict[str, list[int]], list[str]]:
    """Return the positions of each field's columns, and the required columns that are missing."""
    required = [*always, *(name for name in data.columns if name != "split")]
    columns: dict[str, list[int]] = {}
    missing: list[str] = []
    for field in _FIELDS:
        columns[field], absent = find_columns(data.columns.get(field, field), table.columns)
        missing += absent if field in required else []
    return columns, missing


def _with_header_decided(
    table: Table, data: Data, always: Sequence[str], faults: ExampleFaults
) -> Table:
    """Return the table, its first line an example if it is no header and no column has a name."""
    if table.header is None or not all(
        field in data.columns and is_position(data.columns[field]) for field in always
    ):
        return table
    rows = [row for row in table.rows if not isinstance(row, BadRow)]
    if looks_like_header(table.header, rows):
        return table
    faults.notes.append(f"{table.file.name} has no header: its first line was read as an example.")
    return table.without_header()


def _missing_columns(
    table: Table, data: Data, always: Sequence[str], missing: Sequence[str]
) -> str:
    existing = table.columns
    received = preview([_shorten(name) for name in existing]) or "none"
    message = (
        f"The table of {data.source!r} must have the columns {' and '.join(always)}, or "
        "`data.columns` must name the columns to use, for example "
        "--set=data.columns.text=review --set=data.columns.label=stars. "
        f"Missing: {', '.join(missing)}. Received: {received}."
    )
    rows = [
        row for row in table.rows if not isinstance(row, BadRow) and len(row) == len(table.columns)
    ]
    if table.header is not None and not looks_like_header(table.header, rows):
        positions = _likely_positions(rows or [table.header], always)
        return (
            f"{message} The first line of {table.file.name} looks like an example, not like a "
            f"header. Name the columns by their positions, from 0, for example {positions}."
        )
    columns = {name: {_binary(row[n]) for row in rows} for n, name in enumerate(existing)}
    binary = [name for name, values in columns.items() if values <= {0, 1, None} and 1 in values]
    if len(binary) > 1 and "label" in missing:
        return (
            f"{message} If the columns of 0 and 1 are labels, name them: "
            f"--set=data.columns.label={','.join(binary)}."
        )
    return message + "".join(did_you_mean(name, existing) for name in missing)


def _likely_positions(rows: Sequence[Sequence[Any]], always: Sequence[str]) -> str:
    """Return flags that name the longest column the text and the one of fewest values the label."""
    columns = list(itertools.zip_longest(*rows, fillvalue=""))
    lengths = [sum(len(str(value)) for value in column) for column in columns]
    text = lengths.index(max(lengths))
    others = [position for position in range(len(columns)) if position != text]
    varied = [position for position in others if len(set(map(str, columns[position]))) > 1]
    label = min(varied, key=lambda position: len(set(map(str, columns[position]))), default=1)
    positions = {"text": text, "label": label}
    return " ".join(f"--set=data.columns.{field}={positions[field]}" for field in always)


def _rows(
    split: str, table: Table, columns: Mapping[str, Sequence[int]], faults: ExampleFaults
) -> list[TextRow | None]:
    """Return the rows of a table; None for each one that cannot be used."""
    texts = [*columns["text"], *columns["text_pair"]]
    last = max([*texts, *columns["label"], *columns["split"]], default=0)
    missing_words: Counter[str] = Counter()
    rows: list[TextRow | None] = []
    for number, values in enumerate(table.rows):
        name, place = f"{split}[{number}]", table.place(number)
        rows.append(None)
        if isinstance(values, BadRow):
            report = faults.drop if values.reason == "that repeat the header" else faults.add
            hint = {"hint": values.hint} if report == faults.add else {}
            report(values.reason, name, f"{place}, {values.shown}", **hint)
            continue
        if last >= len(values):
            faults.add(
                "with too few values",
                name,
                f"{place}, {len(values)} values, {_shorten(str(values[-1]))!r}",
                hint=f"There are {len(table.columns)} columns. A line break in a text must be in "
                "quotes.",
            )
            continue
        try:
            label = _label(table, values, columns["label"], missing_words)
        except ValueError as error:
            faults.add("with labels other than 0 and 1", name, f"{place}, {error}")
            continue
        row_texts = tuple(_text(values[position]) for position in texts)
        if is_missing(label) and not any(map(str.strip, row_texts)) and columns["label"]:
            faults.drop("that are blank", name, place)
            continue
        rows[-1] = TextRow(name, row_texts, label, place)
    if missing_words:
        words = preview([f"{word!r} ({count})" for word, count in missing_words.most_common()])
        faults.notes.append(
            f"Labels of {table.file.name} that were read as missing: {words}. If one of them is a "
            "class, give it another name."
        )
    return rows


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)


def _label(
    table: Table, values: Sequence[Any], columns: Sequence[int], missing_words: Counter[str]
) -> Any:
    """Return the label of a row; of several columns, the names of those that hold 1."""
    if not columns:
        return None
    if len(columns) > 1:
        return _names_of_ones(table, values, columns)
    label = values[columns[0]]
    if isinstance(label, str) and table.is_delimited:  # where everything is text
        word = str(label).strip()
        if word in _MISSING:
            missing_words[word] += 1
            return None
    return label


def _names_of_ones(table: Table, values: Sequence[Any], columns: Sequence[int]) -> Any:
    """Return the names of the columns that hold 1; `UNKNOWN` if all are unknown.

    Raises:
      ValueError: Naming a column with another value.
    """
    truths = {table.columns[column]: _binary(values[column]) for column in columns}
    if all(truth is None for truth in truths.values()):
        return UNKNOWN
    for column in columns:
        if truths[table.columns[column]] not in (0, 1):
            shown = _shorten(str(values[column]))
            raise ValueError(f"{table.columns[column]!r} is {shown!r}")
    return [name for name, truth in truths.items() if truth]


def _binary(value: Any) -> int | None:
    """Return 0 or 1; None for an unknown label; 2 for anything else."""
    word = "" if value is None else str(value).strip().lower()
    if word in _UNKNOWN:
        return None
    return 1 if word in _TRUE else 0 if word in _FALSE else 2


def _by_split(
    table: Table, rows: Sequence[TextRow | None], columns: Sequence[int], faults: ExampleFaults
) -> dict[str, list[TextRow]]:
    """Divide the rows of one table by its split column, if it has one."""
    if not columns:
        return {"train": [row for row in rows if row is not None]}
    column = table.columns[columns[0]]
    rows_by_split: dict[str, list[TextRow]] = {}
    unknown: Counter[str] = Counter()
    without_split: list[TextRow] = []
    for row, values in zip(rows, table.rows):
        if row is None or isinstance(values, BadRow):
            continue
        word = _text(values[columns[0]]).strip()
        name = find_split_name(word)
        if name is None or not name.is_certain:
            unknown[word] += 1
            without_split.append(row)
        else:
            rows_by_split.setdefault(name.split, []).append(row)
    words = preview([f"{_shorten(word)!r} ({count})" for word, count in unknown.most_common()])
    for row in without_split:
        faults.add(
            "in no known split",
            row.name,
            row.place,
            hint=f"The column {column!r} must hold one of {known_split_names()}. "
            f"Received: {words}.",
        )
    return rows_by_split


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
