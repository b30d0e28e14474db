import time

import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.data import streams
from sft_keras.data import tfds as tfds_builders
from sft_keras.data.batches import training_batches
from sft_keras.vision.preprocess import prepare_images
from sft_keras.vision.sources import tfds as tfds_source
from sft_keras.vision.sources.open import open_data

COUNT = 30


@pytest.fixture(scope="module")
def made_set(tmp_path_factory):
    """A function (name, features, example(index), splits) -> folder of a set on disk."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")

    def make(name, features, example, splits=("train",)):
        def dataset():
            for index in range(COUNT):
                yield example(index)

        features = tfds.features.FeaturesDict(features)
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=features,
            split_datasets={
                split: tf.data.Dataset.from_generator(
                    dataset, output_signature=features.get_tensor_spec()
                )
                for split in splits
            },
            data_dir=folder,
            disable_shuffling=True,
        )
        return folder

    return make


@pytest.fixture(scope="module")
def coloured(made_set):
    """Images whose pixels all are the example's number, in three classes."""
    import tensorflow_datasets as tfds

    return made_set(
        "coloured",
        {
            "image": tfds.features.Image(shape=(6, 5, 3)),
            "kind": tfds.features.ClassLabel(names=["x", "y", "z"]),
        },
        lambda index: {"image": np.full((6, 5, 3), index, np.uint8), "kind": index % 3},
    )


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(tfds_builders, "is_online", lambda: False)


def _open(name, folder, seed=0):
    return open_data(Data(source=f"tfds:{name}", data_dir=str(folder)), seed=seed)


def test_a_set_on_disk_is_listed_with_its_own_names_and_ids(coloured):
    splits = _open("coloured", coloured)
    assert splits.info.class_names == ("x", "y", "z")
    assert splits.info.sizes == {"train": 24, "validation": 3, "test": 3}
    everything = {*splits.train.ids, *splits.validation.ids, *splits.test.ids}
    assert everything == {f"coloured-train.tfrecord-00000-of-00001__{n}" for n in range(COUNT)}
    assert _open("coloured:1.0.0", coloured).as_json()["ids"] == splits.as_json()["ids"]


@pytest.mark.parametrize("seed", [None, [1, 2]])
def test_the_stream_holds_encoded_images_that_belong_to_their_ids(coloured, seed):
    splits = _open("coloured", coloured)
    for split in (splits.train, splits.validation, splits.test):
        stream = split.stream(None if seed is None else tf.constant(seed, tf.int64))
        elements = list(stream.as_numpy_iterator())
        assert sorted(one["index"] for one in elements) == list(range(len(split)))
        for one in elements:
            number = int(split.ids[one["index"]].rpartition("__")[2])
            assert one["image"].startswith(b"\x89PNG")
            assert (tf.io.decode_png(one["image"]).numpy() == number).all()
            assert split.labels[one["index"]] == number % 3


@pytest.mark.parametrize(
    "window",
    [
        pytest.param(7, id="in parts"),
        pytest.param(100, id="as a whole", marks=pytest.mark.slow),
    ],
)
def test_epochs_of_a_streamed_set_are_whole_shuffled_and_repeatable(coloured, monkeypatch, window):
    monkeypatch.setattr(streams, "_SHUFFLE_WINDOW", window)
    splits = _open("coloured", coloured)
    prepared = prepare_images({"train": splits.train}, (6, 5), "stretch", 0.0, lambda *_: None)

    def epochs():
        batches = training_batches(prepared["train"], 5, 0, 0, epochs=2).as_numpy_iterator()
        numbers = [batch["input"][:, 0, 0, 0] for batch in batches]
        return np.concatenate(numbers[:5]), np.concatenate(numbers[5:])

    first, second = epochs()
    stored = [int(each.rpartition("__")[2]) for each in splits.train.ids]
    assert sorted(first) == sorted(second) == stored
    assert first.tolist() != second.tolist()
    assert first.tolist() != stored
    again = epochs()
    assert (again[0] == first).all()
    assert (again[1] == second).all()


def test_a_missing_set_fails_within_seconds_without_a_network(tmp_path, offline):
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        _open("tf_flowers", tmp_path)
    assert time.monotonic() - started < 5
    message = str(caught.value)
    assert "must name a data set that is on this machine or can be downloaded" in message
    assert "Received: 'tfds:tf_flowers'" in message
    assert f"not under {tmp_path / 'tf_flowers'}" in message
    assert "--recipe=quickstart" in message


def test_a_failed_download_is_said_in_the_same_way(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(self, **arguments):
        raise RuntimeError("the server is on fire")

    monkeypatch.setattr(tfds_builders, "is_online", lambda: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(DataError, match="download failed: the server is on fire") as caught:
        _open("tf_flowers", tmp_path)
    assert "--recipe=quickstart" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tf_flower", "Received: 'tfds:tf_flower'. Did you mean 'tf_flowers'?"),
        ("tf_flowers:9.9.9", "cannot be loaded at version 9.9.9, only: 3.0.1"),
        ("mnist/none", "BuilderConfig none not found"),
        ("no such name", "Received: 'tfds:no such name'"),
        ("ag_news_subset", "one integer Image .* one ClassLabel.*title"),
    ],
)
def test_a_wrong_name_is_said_without_a_network(tmp_path, offline, name, expected):
    with pytest.raises(DataError, match=expected):
        _open(name, tmp_path)


def test_features_other_than_an_image_and_a_label_are_named(made_set):
    import tensorflow_datasets as tfds

    image, label = tfds.features.Image(shape=(2, 2, 3)), tfds.features.ClassLabel(num_classes=2)
    pixels = np.zeros((2, 2, 3), np.uint8)
    folder = made_set(
        "two_images",
        {"left": image, "right": image, "label": label},
        lambda index: {"left": pixels, "right": pixels, "label": index % 2},
    )
    with pytest.raises(DataError, match=r"left \(Image\), right \(Image\)") as caught:
        _open("two_images", folder)
    assert "label (ClassLabel)" in str(caught.value)


def test_of_several_labels_the_one_that_the_set_trains_with_is_taken(tmp_path):
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar100", data_dir=tmp_path)
    assert set(builder.info.features) == {"id", "image", "label", "coarse_label"}
    assert tfds_source._keys(builder, "cifar100") == ("image", "label")


def test_labels_out_of_range_and_a_missing_train_split_are_named_together(made_set):
    import tensorflow_datasets as tfds

    folder = made_set(
        "unlabelled",
        {
            "image": tfds.features.Image(shape=(2, 2, 3)),
            "label": tfds.features.ClassLabel(num_classes=3),
        },
        lambda index: {"image": np.zeros((2, 2, 3), np.uint8), "label": -1},
        splits=("test", "unsupervised"),
    )
    with pytest.raises(DataError) as caught:
        _open("unlabelled", folder)
    assert "no 'train' split. Its splits: test, unsupervised" in str(caught.value)
    assert "Received: -1, in 30 examples" in str(caught.value)


@pytest.mark.shared
def test_the_real_flowers_are_read(shared_folder):
    splits = _open("tf_flowers", shared_folder / "tensorflow_datasets")
    assert sum(splits.info.sizes.values()) == 1000
    assert splits.info.class_names == ("dandelion", "daisy", "tulips", "sunflowers", "roses")
    assert len(set(splits.info.counts["test"])) == 1  # The set is balanced, so the split is.
    prepared = prepare_images(splits.by_name(), (64, 64), "crop", 0.25, lambda *_: None)
    again = _open("tf_flowers:3.0.1", shared_folder / "tensorflow_datasets")
    assert again.as_json()["ids"] == splits.as_json()["ids"]
    streamed = prepare_images({"test": again.test}, (64, 64), "crop", 0.0, lambda *_: None)
    batch = next(iter(training_batches(streamed["test"], 100, 0, 0, epochs=1)))
    assert batch["label"].shape == (100,)
    sums = [
        np.sort(images.numpy().astype(int).sum((1, 2, 3)))
        for images in (prepared["test"].features.tensors, batch["input"])
    ]
    assert (sums[0] == sums[1]).all()
