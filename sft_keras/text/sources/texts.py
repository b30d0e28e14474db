"""Labelled texts from tables, Python lists or tensorflow-datasets, or synthetic ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.columns import find_columns
from sft_keras.data.listing import Listing, Part, known_split_names, parse_split_name, preview
from sft_keras.data.streams import indexed_stream
from sft_keras.data.tables import Row, read_tables
from sft_keras.recipe.data import Data
from sft_keras.recipe.section import did_you_mean
from sft_keras.text.clean_config import Clean
from sft_keras.text.cleaning import TextRow, clean_rows
from sft_keras.text.labels import EncodedLabels, LabelKind
from sft_keras.text.sources.in_memory import Texts
from sft_keras.text.sources.synthetic import synthetic_rows
from sft_keras.text.sources.tfds import tfds_rows

TABLES = ("csv", "tsv", "jsonl", "parquet")
COLUMNS = ("text", "text_pair", "label", "split")


def list_texts(data: Data, clean: Clean, kind: LabelKind, seed: int) -> Listing:
    """List the cleaned texts of a source.

    Args:
      data: The recipe's data section.
      clean: The cleaning to apply.
      kind: The kind of labels.
      seed: The seed of synthetic texts.

    Raises:
      DataError: If the source does not exist or has no labelled texts.
    """
    rows_by_split, faults = read_rows(data, kind, seed)
    labelled, label_faults = _parse_labels(rows_by_split, kind)
    cleaned, dropped = clean_rows(labelled, clean)
    labels = {split: [row.label for row in rows] for split, rows in cleaned.items()}
    class_names, encoded = kind.encode(labels)
    parts = {split: text_part(rows, encoded[split]) for split, rows in cleaned.items()}
    sizes = {len(row.texts) for rows in cleaned.values() for row in rows}
    facts = {"texts": max(sizes, default=1), "dropped": dropped}
    return Listing(class_names, parts, (*faults, *label_faults), facts)


def read_rows(
    data: Data, kind: LabelKind, seed: int, labelled: bool = True
) -> tuple[dict[str, list[TextRow]], list[str]]:
    """Return the unchanged texts of a source by split, and the faults of the source.

    Args:
      data: The recipe's data section.
      kind: The kind of labels of synthetic texts.
      seed: The seed of synthetic texts.
      labelled: Whether a table must have a label column.

    Raises:
      DataError: If the source does not exist or has no texts.
    """
    scheme, _, name = data.source.partition(":") if isinstance(data.source, str) else ("", "", "")
    if isinstance(data.source, Texts):
        return _text_rows_of(data.source), []
    if scheme in TABLES:
        tables = read_tables(scheme, name)
        rows = {split: _text_rows(split, table, data, labelled) for split, table in tables.items()}
        return (rows, []) if len(rows) > 1 else _by_split(tables["train"], rows["train"], data)
    return (tfds_rows(name, data) if scheme == "tfds" else synthetic_rows(name, kind, seed)), []


def _parse_labels(
    rows_by_split: Mapping[str, Sequence[TextRow]], kind: LabelKind
) -> tuple[dict[str, list[TextRow]], list[str]]:
    """Return the rows with valid labels, parsed, and one fault per kind of invalid label."""
    labelled: dict[str, list[TextRow]] = {}
    invalid: dict[str, list[str]] = {}
    for split, rows in rows_by_split.items():
        labelled[split] = []
        for row in rows:
            try:
                labelled[split].append(dataclasses.replace(row, label=kind.parse(row.label)))
            except ValueError as fault:
                received = "" if row.label is None else str(row.label)
                quoted = f" ({received[:40]!r})" if received else ""
                invalid.setdefault(str(fault), []).append(f"{row.name}{quoted}")
    faults = [f"{len(names)} texts {fault}: {preview(names)}." for fault, names in invalid.items()]
    return labelled, faults


def text_part(rows: Sequence[TextRow], labels: EncodedLabels) -> Part:
    """Return rows as a part; elements are {"index", "texts": string [1 or 2]} and the columns."""
    columns_of_texts = len(rows[0].texts) if rows else 1
    texts = np.array([row.texts for row in rows], object).reshape(len(rows), columns_of_texts)

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        selected = tf.constant(texts[positions], tf.string)
        columns = {name: tf.constant(values[positions]) for name, values in labels.columns.items()}

        def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
            label = {name: values[index] for name, values in columns.items()}
            return {"texts": selected[index], **label}

        return indexed_stream(len(positions), seed, read)

    return Part(tuple(row.name for row in rows), labels.groups, stream, labels.occurrences)


def _text_rows(split: str, table: Sequence[Row], data: Data, labelled: bool) -> list[TextRow]:
    existing = list(dict.fromkeys(key for row in table[:100] for key in row))
    always = ["text", "label"] if labelled else ["text"]
    required = [*always, *(name for name in data.columns if name != "split")]
    columns: dict[str, list[str]] = {}
    missing: list[str] = []
    for name in dict.fromkeys((*required, *COLUMNS)):
        columns[name], absent = find_columns(data.columns.get(name, name), existing)
        missing += absent if name in required else []
    if missing:
        hints = "".join(did_you_mean(name, existing) for name in missing)
        raise DataError(
            f"The table of {data.source!r} must have the columns {' and '.join(always)}, or "
            "`data.columns` must name the columns to use, for example "
            "--set=data.columns.text=review --set=data.columns.label=stars. "
            f"Missing: {', '.join(missing)}. Received: {', '.join(existing) or 'none'}.{hints}"
        )
    text_columns = [*columns["text"], *columns["text_pair"]]
    return [
        TextRow(
            name=f"{split}[{number}]",
            texts=tuple("" if row.get(name) is None else str(row[name]) for name in text_columns),
            label=_label(row, columns["label"]),
        )
        for number, row in enumerate(table)
    ]


def _label(row: Row, columns: Sequence[str]) -> Any:
    """Return the label of a row; of several columns, the names of those that are 1."""
    if len(columns) < 2:
        return row.get(columns[0]) if columns else None
    return [name for name in columns if str(row.get(name)).strip() in ("1", "1.0", "True", "true")]


def _text_rows_of(texts: Texts) -> dict[str, list[TextRow]]:
    faults = texts.faults()
    if faults:
        raise DataError(numbered(f"The texts cannot be trained on: {texts!r}.", faults))
    return {
        split: [
            TextRow(f"{split}[{number}]", (text,) if isinstance(text, str) else tuple(text), label)
            for number, (text, label) in enumerate(zip(*pair))
        ]
        for split, pair in texts.given().items()
    }


def _by_split(
    table: Sequence[Row], rows: Sequence[TextRow], data: Data
) -> tuple[dict[str, list[TextRow]], list[str]]:
    """Divide the rows of one table by its split column, if it has one; also return faults."""
    names, _ = find_columns(data.columns.get("split", "split"), list(table[0]) if table else [])
    if not names:
        return {"train": list(rows)}, []
    column = names[0]
    words = [str(row.get(column) or "") for row in table]
    splits = [parse_split_name(word) for word in words]
    unknown = sorted({word for word, split in zip(words, splits) if split is None})
    faults = []
    if unknown:
        faults.append(
            f"The column {column!r} must hold one of {known_split_names()}. "
            f"Received: {preview([repr(word) for word in unknown])}."
        )
    rows_by_split: dict[str, list[TextRow]] = {}
    for row, split in zip(rows, splits):
        if split is not None:
            rows_by_split.setdefault(split, []).append(row)
    return rows_by_split, faults
