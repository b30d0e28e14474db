"""Labelled texts, from tables, Python lists, tensorflow-datasets or made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataError, numbered
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
    """Lists the texts of a source, cleaned.

    Args:
      data: The recipe's section.
      clean: What is done to the texts.
      kind: What their labels are.
      seed: Of synthetic texts.

    Raises:
      DataError: If the source is not there or does not hold labelled texts.
    """
    rows, faults = read_rows(data, kind, seed)
    read, label_faults = _with_labels(rows, kind)
    kept, dropped = clean_rows(read, clean)
    labels = {split: [row.label for row in each] for split, each in kept.items()}
    class_names, coded = kind.encode(labels)
    parts = {split: text_part(each, coded[split]) for split, each in kept.items()}
    sizes = {len(row.texts) for each in kept.values() for row in each}
    facts = {"texts": max(sizes, default=1), "dropped": dropped}
    return Listing(class_names, parts, (*faults, *label_faults), facts)


def read_rows(
    data: Data, kind: LabelKind, seed: int, labelled: bool = True
) -> tuple[dict[str, list[TextRow]], list[str]]:
    """Returns the texts of a source by split, as they are, and what is wrong with it.

    Args:
      data: The recipe's section.
      kind: What the labels of synthetic texts are.
      seed: Of synthetic texts.
      labelled: Whether a table must have a column of labels.

    Raises:
      DataError: If the source is not there or holds no texts.
    """
    place, _, name = data.source.partition(":") if isinstance(data.source, str) else ("", "", "")
    if isinstance(data.source, Texts):
        return _listed(data.source), []
    if place in TABLES:
        tables = read_tables(place, name)
        rows = {split: _text_rows(split, table, data, labelled) for split, table in tables.items()}
        return (rows, []) if len(rows) > 1 else _by_split(tables["train"], rows["train"], data)
    return (tfds_rows(name, data) if place == "tfds" else synthetic_rows(name, kind, seed)), []


def _with_labels(
    rows_by_split: Mapping[str, Sequence[TextRow]], kind: LabelKind
) -> tuple[dict[str, list[TextRow]], list[str]]:
    """Returns the rows whose labels are of a kind, with these, and what is wrong with others."""
    found: dict[str, list[TextRow]] = {}
    wrong: dict[str, list[str]] = {}
    for split, rows in rows_by_split.items():
        found[split] = []
        for row in rows:
            try:
                found[split].append(dataclasses.replace(row, label=kind.parse(row.label)))
            except ValueError as fault:
                received = "" if row.label is None else str(row.label)
                shown_label = f" ({received[:40]!r})" if received else ""
                wrong.setdefault(str(fault), []).append(f"{row.name}{shown_label}")
    faults = [f"{len(names)} texts {fault}: {preview(names)}." for fault, names in wrong.items()]
    return found, faults


def text_part(rows: Sequence[TextRow], labels: EncodedLabels) -> Part:
    """Returns rows as a part; elements are {"index", "texts": string [1 or 2]} and the columns."""
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
    columns = {name: data.columns.get(name, name) for name in COLUMNS}
    there = list(dict.fromkeys(key for row in table[:100] for key in row))
    always = ["text", "label"] if labelled else ["text"]
    needed = [*always, *(name for name in data.columns if name != "split")]
    missing = [columns[name] for name in dict.fromkeys(needed) if columns[name] not in there]
    if missing:
        hints = "".join(did_you_mean(name, there) for name in missing)
        raise DataError(
            f"The table of {data.source!r} must have the columns {' and '.join(always)}, or "
            "`data.columns` must say which they are, as "
            '--set=data.columns=\'{"text": "review", "label": "stars"}\'. '
            f"Missing: {', '.join(missing)}. There are: {', '.join(there) or 'none'}.{hints}"
        )
    kept = [columns["text"]]
    if columns["text_pair"] in there:
        kept.append(columns["text_pair"])
    return [
        TextRow(
            name=f"{split}[{number}]",
            texts=tuple("" if row.get(name) is None else str(row[name]) for name in kept),
            label=row.get(columns["label"]),
        )
        for number, row in enumerate(table)
    ]


def _listed(texts: Texts) -> dict[str, list[TextRow]]:
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
    """Sorts the rows of one table by its column split, if it has one."""
    column = data.columns.get("split", "split")
    if not table or column not in table[0]:
        return {"train": list(rows)}, []
    words = [str(row.get(column) or "") for row in table]
    splits = [parse_split_name(word) for word in words]
    unknown = sorted({word for word, split in zip(words, splits) if split is None})
    faults = []
    if unknown:
        faults.append(
            f"The column {column!r} must hold one of {known_split_names()}. "
            f"Received: {preview([repr(word) for word in unknown])}."
        )
    found: dict[str, list[TextRow]] = {}
    for row, split in zip(rows, splits):
        if split is not None:
            found.setdefault(split, []).append(row)
    return found, faults
