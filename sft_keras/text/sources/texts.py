"""Labelled texts from tables, Python lists or tensorflow-datasets, or synthetic ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.example_faults import ExampleFaults
from sft_keras.data.listing import Listing, Part
from sft_keras.data.streams import indexed_stream
from sft_keras.recipe.data import Data
from sft_keras.text.clean_config import Clean
from sft_keras.text.cleaning import TextRow, clean_rows
from sft_keras.text.labels import EncodedLabels, LabelKind, MissingLabelError
from sft_keras.text.sources.folder import folder_rows
from sft_keras.text.sources.in_memory import Texts, text_rows
from sft_keras.text.sources.synthetic import synthetic_rows
from sft_keras.text.sources.tables import TABLES, table_rows
from sft_keras.text.sources.tfds import tfds_rows

_SHOWN = 40  # characters of a label in a message


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
    faults = ExampleFaults(data)
    rows_by_split = read_rows(data, kind, seed, faults)
    kind = kind.fitted(row.label for rows in rows_by_split.values() for row in rows)
    labelled = _parse_labels(rows_by_split, kind, faults)
    cleaned, dropped = clean_rows(labelled, clean)
    labels = {split: [row.label for row in rows] for split, rows in cleaned.items()}
    faults.notes += kind.notes(label for split in labels.values() for label in split)
    class_names, encoded = kind.encode(labels)
    parts = {split: text_part(rows, encoded[split]) for split, rows in cleaned.items()}
    sizes = {len(row.texts) for rows in cleaned.values() for row in rows}
    faults.ids.update(row.name for rows in labelled.values() for row in rows)
    facts = text_facts(faults, dropped, max(sizes, default=1))
    return Listing(class_names, parts, tuple(faults.sentences()), facts, frozenset(faults.ids))


def text_facts(faults: ExampleFaults, dropped: Mapping[str, int], texts: int) -> dict[str, Any]:
    """Return the facts of a listing of texts.

    Args:
      faults: What was dropped while the source was read, and notes on that.
      dropped: What cleaning dropped.
      texts: 1, or 2 for pairs.
    """
    facts = {"texts": texts, **faults.facts()}
    return {**facts, "dropped": {**dropped, **facts["dropped"]}}


def read_rows(
    data: Data, kind: LabelKind, seed: int, faults: ExampleFaults, labelled: bool = True
) -> dict[str, list[TextRow]]:
    """Return the unchanged texts of a source by split.

    Args:
      data: The recipe's data section.
      kind: The kind of labels of synthetic texts.
      seed: The seed of synthetic texts.
      faults: Receives examples that cannot be used, and notes on how the source was read.
      labelled: Whether a table must have a label column.

    Raises:
      DataError: If the source does not exist or has no texts.
    """
    scheme, _, name = data.source.partition(":") if isinstance(data.source, str) else ("", "", "")
    if isinstance(data.source, Texts):
        return text_rows(data.source)
    if scheme in TABLES:
        return table_rows(data, faults, labelled)
    if scheme == "folder":
        return folder_rows(data, faults, labelled)
    return tfds_rows(name, data) if scheme == "tfds" else synthetic_rows(name, kind, seed)


def _parse_labels(
    rows_by_split: Mapping[str, Sequence[TextRow]], kind: LabelKind, faults: ExampleFaults
) -> dict[str, list[TextRow]]:
    """Return the rows with parsed labels; those without a label are dropped.

    A split other than "train" without any label is no split: it was made to be predicted.
    """
    labelled: dict[str, list[TextRow]] = {}
    for split, rows in rows_by_split.items():
        parsed, unlabelled, invalid = [], [], []
        for row in rows:
            try:
                parsed.append(dataclasses.replace(row, label=kind.parse(row.label)))
            except MissingLabelError:
                unlabelled.append(row)
            except ValueError as error:
                invalid.append((row, str(error)))
        if split != "train" and unlabelled and len(unlabelled) == len(rows):
            faults.notes.append(
                f"The {split!r} split has no labels, so it was dropped ({len(rows):,} texts)."
            )
            faults.ids.update(row.name for row in rows)
            continue
        labelled[split] = parsed
        for row in unlabelled:
            faults.drop("without a label", row.name, row.place)
        for row, fault in invalid:
            received = repr(str(row.label)[:_SHOWN])
            shown = f"{row.place}, {received}" if row.place else received
            faults.add(f"that {fault}", row.name, shown, sentence=f"texts {fault}")
    return labelled


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
