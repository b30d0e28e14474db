"""Labelled texts, from tables, Python lists, tensorflow-datasets or made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.listing import Listing, Part, shown, split_named, split_words
from sft_keras.data.streams import in_graph, shuffled_range
from sft_keras.data.tables import Row, read_tables
from sft_keras.data.text_cleaning import TextRow, clean_rows
from sft_keras.data.text_lists import Texts
from sft_keras.data.tfds_texts import tfds_rows
from sft_keras.errors import DataError, numbered
from sft_keras.recipe import Data
from sft_keras.recipe_checks import did_you_mean
from sft_keras.tasks.clean import Clean

_SYNTHETIC_PER_CLASS = 24
_SYNTHETIC_WORDS = 12
TABLES = ("csv", "tsv", "jsonl", "parquet")
COLUMNS = ("text", "text_pair", "label", "split")


def list_texts(data: Data, clean: Clean, seed: int) -> Listing:
    """Lists the texts of a source, cleaned.

    Raises:
      DataError: If the source is not there or does not hold labelled texts.
    """
    faults: list[str] = []
    kind, _, name = data.source.partition(":") if isinstance(data.source, str) else ("", "", "")
    if isinstance(data.source, Texts):
        rows = _listed(data.source)
    elif kind in TABLES:
        tables = read_tables(kind, name)
        rows = {split: _text_rows(split, table, data) for split, table in tables.items()}
        if len(rows) == 1:
            rows, faults = _by_split(tables["train"], rows["train"], data)
    elif kind == "tfds":
        rows = tfds_rows(name, data)
    else:
        rows = _synthetic(name, seed)
    unlabelled = [row.name for each in rows.values() for row in each if not row.label]
    if unlabelled:
        faults.append(f"{len(unlabelled)} texts have no label: {shown(unlabelled)}.")
    kept, dropped = clean_rows(
        {split: [row for row in each if row.label] for split, each in rows.items()}, clean
    )
    class_names = _sorted_names({row.label for each in kept.values() for row in each})
    number = {name: label for label, name in enumerate(class_names)}
    parts = {
        split: text_part(each, np.array([number[row.label] for row in each], np.int64))
        for split, each in kept.items()
    }
    sizes = {len(row.texts) for each in kept.values() for row in each}
    facts = {"texts": max(sizes, default=1), "dropped": dropped}
    return Listing(class_names, parts, tuple(faults), facts)


def text_part(rows: Sequence[TextRow], labels: np.ndarray) -> Part:
    """Returns rows as a part, whose elements are {"index", "texts": string [1 or 2]}."""
    texts = np.array([row.texts for row in rows], object).reshape(len(rows), -1)

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        chosen = tf.constant(texts[positions], tf.string)
        indices = tf.data.Dataset.range(len(positions))
        if seed is not None:
            indices = tf.data.Dataset.from_tensor_slices(shuffled_range(len(positions), seed))
        return indices.map(in_graph(lambda index: {"index": index, "texts": chosen[index]}))

    return Part(tuple(row.name for row in rows), labels, stream)


def _text_rows(split: str, table: Sequence[Row], data: Data) -> list[TextRow]:
    columns = {name: data.columns.get(name, name) for name in COLUMNS}
    there = list(dict.fromkeys(key for row in table[:100] for key in row))
    needed = ["text", "label", *(name for name in data.columns if name != "split")]
    missing = [columns[name] for name in dict.fromkeys(needed) if columns[name] not in there]
    if missing:
        hints = "".join(did_you_mean(name, there) for name in missing)
        raise DataError(
            f"The table of {data.source!r} must have the columns text and label, or "
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
            label=_label(row.get(columns["label"])),
        )
        for number, row in enumerate(table)
    ]


def _listed(texts: Texts) -> dict[str, list[TextRow]]:
    faults = texts.faults()
    if faults:
        raise DataError(numbered(f"The texts cannot be trained on: {texts!r}.", faults))
    return {
        split: [
            TextRow(
                f"{split}[{number}]", (text,) if isinstance(text, str) else tuple(text), str(label)
            )
            for number, (text, label) in enumerate(zip(*pair))
        ]
        for split, pair in texts.given().items()
    }


def _label(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as tables have whole numbers beside missing ones
    return "" if value is None else str(value).strip()


def _by_split(
    table: Sequence[Row], rows: Sequence[TextRow], data: Data
) -> tuple[dict[str, list[TextRow]], list[str]]:
    """Sorts the rows of one table by its column split, if it has one."""
    column = data.columns.get("split", "split")
    if not table or column not in table[0]:
        return {"train": list(rows)}, []
    words = [str(row.get(column) or "") for row in table]
    splits = [split_named(word) for word in words]
    unknown = sorted({word for word, split in zip(words, splits) if split is None})
    faults = []
    if unknown:
        faults.append(
            f"The column {column!r} must hold one of {split_words()}. "
            f"Received: {shown([repr(word) for word in unknown])}."
        )
    found: dict[str, list[TextRow]] = {}
    for row, split in zip(rows, splits):
        if split is not None:
            found.setdefault(split, []).append(row)
    return found, faults


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    """Returns class names in order: numbers by value, else by alphabet."""
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _synthetic(num_classes: str, seed: int) -> Mapping[str, list[TextRow]]:
    """Makes texts of random letters, in which a word says the class."""
    if not num_classes.isdecimal() or not 2 <= int(num_classes) <= 26:
        raise DataError(
            "`data.source` must be 'synthetic:NUM_CLASSES' with a number from 2 to 26. "
            f"Received: 'synthetic:{num_classes}'."
        )
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(int(num_classes) * _SYNTHETIC_PER_CLASS):
        label = chr(ord("a") + number % int(num_classes))
        count = draw.integers(2, _SYNTHETIC_WORDS)
        words = ["".join(draw.choice(list("nopqrstuvwxyz"), 3)) for _ in range(count)]
        words.insert(draw.integers(0, count), label * 3)
        rows.append(TextRow(f"synthetic[{number}]", (" ".join(words),), label))
    return {"train": rows}
