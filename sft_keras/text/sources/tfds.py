"""Text classification sets of tensorflow-datasets: "tfds:NAME[/CONFIG][:VERSION]"."""

from __future__ import annotations

from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.listing import parse_split_name
from sft_keras.data.tfds import ensure_downloaded, find_builder
from sft_keras.recipe.data import Data
from sft_keras.recipe.section import did_you_mean
from sft_keras.text.cleaning import TextRow

_BATCH = 1024


def tfds_rows(name: str, data: Data) -> dict[str, list[TextRow]]:
    """Returns the texts of the train, validation and test splits of a set.

    A split without any labels, as the test splits of GLUE are, is left out. A set with more than
    one text feature needs `data.columns` to say which is meant.

    Raises:
      DataError: If the set is unknown, cannot be had, or is not one of labelled texts.
    """
    builder = find_builder(name, data.data_dir)
    keys, label_key = _keys(builder, data)
    ensure_downloaded(builder, name)
    found: dict[str, list[TextRow]] = {}
    for own_name in builder.info.splits:
        split = parse_split_name(own_name.removesuffix("_matched"))
        if split is not None and split not in found:
            rows = _rows(builder, own_name, keys, label_key)
            if any(row.label for row in rows):
                found[split] = rows
    return found


def _keys(builder: Any, data: Data) -> tuple[list[str], str]:
    """Returns the names of the text features, one or two, and of the label feature."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    texts = [key for key, each in features.items() if isinstance(each, tfds.features.Text)]
    labels = [key for key, each in features.items() if isinstance(each, tfds.features.ClassLabel)]
    chosen = [data.columns[name] for name in ("text", "text_pair") if name in data.columns]
    label = data.columns.get("label", labels[0] if len(labels) == 1 else None)
    if not chosen and len(texts) == 1:
        chosen = texts
    if not chosen or label not in labels or not set(chosen) <= set(texts):
        found = ", ".join(
            f"{key} ({type(each).__name__})" for key, each in sorted(features.items())
        )
        missing = next((name for name in chosen if name not in texts), "")
        raise DataError(
            f"{data.source!r} must have one text and one ClassLabel, or `data.columns` must say "
            'which are meant, as --set=data.columns=\'{"text": "premise", "text_pair": '
            f'"hypothesis"}}\'. It has: {found}.{did_you_mean(missing, texts)}'
        )
    return chosen, label


def _rows(builder: Any, split: str, keys: list[str], label_key: str) -> list[TextRow]:
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(dict.fromkeys((*keys, label_key), True)),
        # One file after the other, so that the order is the same in every run.
        read_config=tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1),
    )
    names = builder.info.features[label_key].names
    rows = []
    for batch in dataset.batch(_BATCH).as_numpy_iterator():
        columns = [batch[key] for key in keys]
        for own_id, label, *texts in zip(batch["tfds_id"], batch[label_key], *columns):
            text = tuple(each.decode("utf-8", errors="replace") for each in texts)
            rows.append(TextRow(own_id.decode(), text, names[label] if label >= 0 else ""))
    return rows
