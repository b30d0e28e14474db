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
    """Lists the train, validation and test splits of a set; downloads it if it is not there.

    Args:
      name: "NAME[/CONFIG][:VERSION]".
      data_dir: Where tensorflow-datasets keeps its data; None for its own default.

    Raises:
      DataError: If the set is unknown, cannot be had, or is not one of labelled images.
    """
    builder = find_builder(name, data_dir)
    image_key, label_key = _keys(builder, name)
    ensure_downloaded(builder, name)
    parts = {}
    for own_name in builder.info.splits:
        split = parse_split_name(own_name)
        if split is not None and split not in parts:
            parts[split] = _part(builder, own_name, image_key, label_key)
    faults = []
    if "train" not in parts:
        faults.append(
            f"tfds:{name} has no split called 'train'. It has: {', '.join(builder.info.splits)}."
        )
    return Listing(tuple(builder.info.features[label_key].names), parts, tuple(faults))


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """Returns the names of the image feature and of the label feature."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    is_image = {
        key: isinstance(feature, tfds.features.Image)
        and not isinstance(feature, tfds.features.LabeledImage)  # a segmentation mask
        # Floats are stored as four bytes a pixel, which look like an RGBA image.
        and np.issubdtype(feature.np_dtype, np.integer)
        for key, feature in features.items()
    }
    is_label = {
        key: isinstance(feature, tfds.features.ClassLabel) for key, feature in features.items()
    }
    keys = [_only(is_image, builder), _only(is_label, builder)]
    if None in keys:
        found = ", ".join(
            f"{key} ({type(each).__name__})" for key, each in sorted(features.items())
        )
        raise DataError(
            "`data.source` must name a data set with one Image of whole numbers and one "
            f"ClassLabel. Received: 'tfds:{name}', whose features are: {found}."
        )
    return keys[0], keys[1]


def _only(fits: dict[str, bool], builder: Any) -> str | None:
    """Returns the one that fits; of several, the one that the data set itself trains with."""
    fitting = [key for key, does in fits.items() if does]
    if len(fitting) > 1:
        supervised = builder.info.supervised_keys or ()
        fitting = [key for key in fitting if key in supervised]
    return fitting[0] if len(fitting) == 1 else None


def _part(builder: Any, split: str, image_key: str, label_key: str) -> Part:
    import tensorflow_datasets as tfds

    def dataset(key: str, decoders: dict[str, Any]) -> tf.data.Dataset:
        return builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding({key: True}, decoders=decoders),
            # One file after the other, so that the order is the same in every run.
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
        ids += [one.decode() for one in batch["tfds_id"]]
        labels.append(batch[label_key])
    encoded = dataset(image_key, {image_key: tfds.decode.SkipDecoding()})
    images = encoded.map(lambda example: example[image_key])
    return sequential_part(ids, np.concatenate(labels).astype(np.int64), images)
