import numpy as np
import pytest

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.vision.sources.arrays import Arrays
from sft_keras.vision.sources.builtin import list_synthetic
from sft_keras.vision.sources.open import open_data

IMAGES = np.arange(30 * 4 * 4, dtype=np.float32).reshape(30, 4, 4) % 256
LABELS = np.arange(30) % 3


def test_arrays_are_listed_with_named_ids_and_own_splits_are_kept():
    arrays = Arrays(
        train=(IMAGES, LABELS),
        validation=(IMAGES[:3], LABELS[:3]),
        test=(IMAGES[3:9], LABELS[3:9]),
        class_names=("x", "y", "z"),
    )
    splits = open_data(Data(source=arrays), seed=0)
    assert splits.info.sizes == {"train": 30, "validation": 3, "test": 6}
    assert set(splits.info.origin.values()) == {"from the source"}
    assert splits.validation.ids == ("validation[0]", "validation[1]", "validation[2]")
    assert splits.info.class_names == ("x", "y", "z")
    assert splits.test.labels.tolist() == LABELS[3:9].tolist()
    image = next(iter(splits.test.stream(None)))["image"].numpy()
    assert image.dtype == np.uint8
    assert image.shape == (4, 4, 1)
    assert (image[..., 0] == IMAGES[3]).all()


def test_class_names_are_the_labels_where_none_are_given():
    splits = open_data(Data(source=Arrays(train=(IMAGES, LABELS))), seed=0)
    assert splits.info.class_names == ("0", "1", "2")


def test_repr_is_short():
    text = repr(Arrays(train=(IMAGES, LABELS), class_names=("x", "y", "z")))
    assert text == "Arrays(train=float32[30, 4, 4] + int64[30], class_names=3)"


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (IMAGES / 255, LABELS, "multiply them by 255"),
        (IMAGES - 1, LABELS, "must lie in 0..255. Received: -1.0 to"),
        (IMAGES + np.nan, LABELS, "must lie in 0..255. Received: nan"),
        (IMAGES[..., np.newaxis].repeat(4, -1), LABELS, r"Received: \[30, 4, 4, 4\]"),
        (IMAGES[:29], LABELS, "29 images and 30 labels"),
        (IMAGES, LABELS + 0.5, "whole numbers or names of classes, \\[n\\]. Received: 0.5"),
        (
            IMAGES,
            np.eye(3)[LABELS],
            r"whole numbers or names of classes, \[n\]. Received: float64 \[30, 3\]",
        ),
        (IMAGES, LABELS - 1, "must be from 0 to 1.* Received: -1, in 10 examples"),
        (IMAGES, LABELS * 1000, "Received: 1000, 2000, in 20 examples"),
        (IMAGES[:0], LABELS[:0], "no examples to train on"),
        (IMAGES, LABELS * 0, "at least 2 classes. Received: '0'"),
    ],
)
def test_each_fault_of_arrays_is_named(images, labels, expected):
    with pytest.raises(DataError, match=expected):
        open_data(Data(source=Arrays(train=(images, labels))), seed=0)


def test_faults_of_several_splits_are_listed_at_once():
    arrays = Arrays(train=(IMAGES / 255, LABELS), test=(IMAGES, LABELS[:3]), class_names=("x", "x"))
    with pytest.raises(DataError) as caught:
        open_data(Data(source=arrays), seed=0)
    for expected in ("images of `train`", "30 images and 3 labels", "`class_names` must be unique"):
        assert expected in str(caught.value)


def test_labels_beyond_the_class_names_and_classes_without_training_are_named_together():
    arrays = Arrays(
        train=(IMAGES[:20], np.arange(20) % 2),
        validation=(IMAGES, LABELS),
        test=(IMAGES, LABELS + 3),
        class_names=("x", "y", "z"),
    )
    with pytest.raises(DataError) as caught:
        open_data(Data(source=arrays), seed=0)
    assert "'validation' split has classes without training examples: 'z'" in str(caught.value)
    assert "Labels of the 'test' split must be from 0 to 2" in str(caught.value)
    assert "Received: 3, 4, 5, in 30 examples" in str(caught.value)


def test_digits_are_rescaled_to_the_full_range():
    splits = open_data(Data(source="digits"), seed=0)
    images = np.stack([one["image"] for one in splits.train.stream(None).as_numpy_iterator()])
    assert images.dtype == np.uint8
    assert images.shape[1:] == (8, 8, 1)
    assert (images.min(), images.max()) == (0, 255)
    assert sum(splits.info.sizes.values()) == 1797
    assert splits.info.class_names == tuple("0123456789")


def test_synthetic_images_show_their_class_in_their_colour():
    splits = open_data(Data(source="synthetic:4"), seed=0)
    assert sum(splits.info.sizes.values()) == 4 * 24
    colours = np.stack(
        [one["image"].mean((0, 1)) for one in splits.train.stream(None).as_numpy_iterator()]
    )
    labels = splits.train.labels
    centres = np.stack([colours[labels == label].mean(0) for label in range(4)])
    distances = np.linalg.norm(colours[:, np.newaxis] - centres, axis=-1)
    assert (distances.argmin(1) == labels).all()


def test_synthetic_images_depend_on_the_seed_alone():
    def first(seed):
        part = list_synthetic("4", seed).parts["train"]
        return next(part.stream(np.array([0]), None).as_numpy_iterator())["image"]

    assert (first(seed=0) == first(seed=0)).all()
    assert (first(seed=0) != first(seed=1)).any()


@pytest.mark.parametrize("count", ["1", "x", "-3", "1001"])
def test_a_wrong_number_of_synthetic_classes_is_named(count):
    with pytest.raises(DataError, match=f"from 2 to 1000. Received: 'synthetic:{count}'"):
        open_data(Data(source=f"synthetic:{count}"), seed=0)


def test_labels_may_be_names_or_a_column():
    named = np.array(["b", "a", "c"])[LABELS]
    splits = open_data(Data(source=Arrays(train=(IMAGES, named[:, np.newaxis]))), seed=0)
    assert splits.info.class_names == ("a", "b", "c")
    for split in splits.by_name().values():
        positions = [int(name[6:-1]) for name in split.ids]
        assert [("a", "b", "c")[label] for label in split.labels] == named[positions].tolist()
    in_order = Arrays(train=(IMAGES, named.tolist()), class_names=("c", "b", "a"))
    assert open_data(Data(source=in_order), seed=0).info.class_names == ("c", "b", "a")
    assert repr(in_order) == "Arrays(train=float32[30, 4, 4] + names[30], class_names=3)"
    columns = open_data(Data(source=Arrays(train=(IMAGES, LABELS[:, np.newaxis]))), seed=0)
    plain = open_data(Data(source=Arrays(train=(IMAGES, LABELS))), seed=0)
    np.testing.assert_array_equal(columns.train.labels, plain.train.labels)


def test_what_cannot_be_arrays_is_answered_with_what_to_do():
    sizes = [np.zeros((4, 4, 3)), np.zeros((5, 4, 3))]
    for source, message in (
        (Arrays(train=(sizes, [0, 1])), r"must have one size.*folder:PATH"),
        (Arrays(train=(IMAGES, np.eye(3)[LABELS])), r"one-hot, pass labels.argmax"),
        (
            Arrays(train=(IMAGES, np.array(["x", "y", "z"])[LABELS]), class_names=("x", "y")),
            r"`class_names` lacks labels of `train`: z",
        ),
    ):
        with pytest.raises(DataError, match=message):
            open_data(Data(source=source), seed=0)
