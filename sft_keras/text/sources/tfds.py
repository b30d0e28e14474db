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
    """Return the texts of the train, validation and test splits of a data set.

    Splits without labels, such as the test splits of GLUE, are ignored. If a data set has several
    text features, `data.columns` must name those to use.

    Args:
      name: "NAME[/CONFIG][:VERSION]".
      data: The recipe's data section.

    Raises:
      DataError: If the data set is unknown, cannot be downloaded, or has no labelled texts.
    """
    builder = find_builder(name, data.data_dir)
    keys, label_key = _keys(builder, data)
    ensure_downloaded(builder, name)
    rows_by_split: dict[str, list[TextRow]] = {}
    for source_split in builder.info.splits:
        split = parse_split_name(source_split.removesuffix("_matched"))
        if split is not None and split not in rows_by_split:
            rows = _rows(builder, source_split, keys, label_key)
            if any(row.label for row in rows):
                rows_by_split[split] = rows
    return rows_by_split


def _keys(builder: Any, data: Data) -> tuple[list[str], str]:
    """Return the names of the one or two text features, and of the label feature."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    texts = [key for key, value in features.items() if isinstance(value, tfds.features.Text)]
    labels = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)]
    selected = [str(data.columns[name]) for name in ("text", "text_pair") if name in data.columns]
    label = str(data.columns["label"]) if "label" in data.columns else None
    if label is None and len(labels) == 1:
        label = labels[0]
    if not selected and len(texts) == 1:
        selected = texts
    if not selected or label is None or label not in labels or not set(selected) <= set(texts):
        received = ", ".join(
            f"{key} ({type(feature).__name__})" for key, feature in sorted(features.items())
        )
        missing = next((name for name in selected if name not in texts), "")
        raise DataError(
            f"{data.source!r} must have one Text and one ClassLabel, or `data.columns` must name "
            "those to use, for example --set=data.columns.text=premise "
            "--set=data.columns.text_pair=hypothesis. "
            f"Received: {received}.{did_you_mean(missing, texts)}"
        )
    return selected, label


def _rows(builder: Any, split: str, keys: list[str], label_key: str) -> list[TextRow]:
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(dict.fromkeys((*keys, label_key), True)),
        # One file after the other, for the same order in every run.
        read_config=tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1),
    )
    names = builder.info.features[label_key].names
    rows = []
    for batch in dataset.batch(_BATCH).as_numpy_iterator():
        columns = [batch[key] for key in keys]
        for id_, label, *texts in zip(batch["tfds_id"], batch[label_key], *columns):
            decoded = tuple(text.decode("utf-8", errors="replace") for text in texts)
            rows.append(TextRow(id_.decode(), decoded, names[label] if label >= 0 else ""))
    return rows
