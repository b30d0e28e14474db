"""Image classification sets of tensorflow-datasets: "tfds:NAME[/CONFIG][:VERSION]"."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataError
from sft_keras.data.listing import Listing, Part, parse_split_name
from sft_keras.data.streams import sequential_part
from sft_keras.data.tfds import ensure_downloaded, find_builder

_BATCH = 1024


def list_tfds(name: str, data_dir: str | None) -> Listing:
    """List the train, validation and test splits of a data set; download it if necessary.

    Args:
      name: "NAME[/CONFIG][:VERSION]".
      data_dir: The folder of tensorflow-datasets; None for its default.

    Raises:
      DataError: If the data set is unknown, cannot be downloaded, or has no labelled images.
    """
    builder = find_builder(name, data_dir)
    image_key, label_key = _keys(builder, name)
    ensure_downloaded(builder, name)
    parts = {}
    for source_split in builder.info.splits:
        split = parse_split_name(source_split)
        if split is not None and split not in parts:
            parts[split] = _part(builder, source_split, image_key, label_key)
    faults = []
    if "train" not in parts:
        faults.append(
            f"tfds:{name} has no 'train' split. Its splits: {', '.join(builder.info.splits)}."
        )
    return Listing(tuple(builder.info.features[label_key].names), parts, tuple(faults))


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """Return the names of the image feature and of the label feature."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    is_image = {
        key: isinstance(feature, tfds.features.Image)
        and not isinstance(feature, tfds.features.LabeledImage)  # a segmentation mask
        # Float images are stored as four bytes per pixel, which look like RGBA.
        and np.issubdtype(feature.np_dtype, np.integer)
        for key, feature in features.items()
    }
    is_label = {
        key: isinstance(feature, tfds.features.ClassLabel) for key, feature in features.items()
    }
    image_key, label_key = _only_key(is_image, builder), _only_key(is_label, builder)
    if image_key is None or label_key is None:
        received = ", ".join(
            f"{key} ({type(feature).__name__})" for key, feature in sorted(features.items())
        )
        raise DataError(
            "`data.source` must name a data set with one integer Image and one ClassLabel. "
            f"Received: 'tfds:{name}', whose features are: {received}."
        )
    return image_key, label_key


def _only_key(is_candidate: dict[str, bool], builder: Any) -> str | None:
    """Return the only candidate; of several, the one in the data set's `supervised_keys`."""
    candidates = [key for key, is_one in is_candidate.items() if is_one]
    if len(candidates) > 1:
        supervised = builder.info.supervised_keys or ()
        candidates = [key for key in candidates if key in supervised]
    return candidates[0] if len(candidates) == 1 else None


def _part(builder: Any, split: str, image_key: str, label_key: str) -> Part:
    import tensorflow_datasets as tfds

    def dataset(key: str, decoders: dict[str, Any]) -> tf.data.Dataset:
        return builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding({key: True}, decoders=decoders),
            # One file after the other, for the same order in every run.
            read_config=tfds.ReadConfig(
                add_tfds_id=True,
                interleave_cycle_length=1,
                num_parallel_calls_for_interleave_files=1,
                try_autocache=False,
                skip_prefetch=True,
            ),
        )

    ids: list[str] = []
    labels = [np.zeros(0, np.int64)]
    for batch in dataset(label_key, {}).batch(_BATCH).as_numpy_iterator():
        ids += [id_.decode() for id_ in batch["tfds_id"]]
        labels.append(batch[label_key])
    encoded = dataset(image_key, {image_key: tfds.decode.SkipDecoding()})
    images = encoded.map(lambda example: example[image_key])
    return sequential_part(ids, np.concatenate(labels).astype(np.int64), images)
