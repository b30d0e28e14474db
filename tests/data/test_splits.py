import json

import numpy as np
import pytest

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.data.examples import SPLITS
from sft_keras.data.listing import Listing, Part
from sft_keras.data.splits import make_splits
from sft_keras.vision.sources.arrays import Arrays
from sft_keras.vision.sources.open import open_data

LABELS = np.repeat([0, 1, 2], [20, 60, 120])
IMAGES = np.zeros((200, 2, 2, 3), np.uint8)
SOURCE = Arrays(train=(IMAGES, LABELS))


def _ids(seed, **fields):
    return open_data(Data(source=SOURCE, **fields), seed=seed).as_json()["ids"]


def test_splits_are_disjoint_and_cover_everything():
    ids = _ids(0)
    everything = [each for split in ids.values() for each in split]
    assert len(everything) == len(set(everything)) == 200
    assert set(everything) == {f"train[{index}]" for index in range(200)}


def test_splits_keep_the_proportions_of_the_classes():
    info = open_data(Data(source=SOURCE, validation=0.2, test=0.1), seed=0).info
    assert info.counts == {"train": (14, 42, 84), "validation": (4, 12, 24), "test": (2, 6, 12)}
    assert info.sizes == {"train": 140, "validation": 40, "test": 20}


def test_the_same_seed_makes_the_same_splits_and_another_seed_others():
    assert _ids(3) == _ids(3)
    assert _ids(3)["test"] != _ids(4)["test"]
    assert _ids(3)["validation"] != _ids(4)["validation"]


def test_the_share_for_validation_does_not_move_the_test_split():
    assert _ids(0, validation=0.1)["test"] == _ids(0, validation=0.3)["test"]


def test_origin_says_how_a_split_was_made():
    info = open_data(Data(source=SOURCE, validation=0.25), seed=7).info
    assert info.origin["validation"] == "created here: 0.25 of train, stratified by class, seed 7"
    assert info.origin["train"] == "created here: the remaining 130 of 200"


def test_each_class_gets_a_place_where_shares_are_smaller_than_that():
    labels = np.arange(12) % 4
    info = open_data(Data(source=Arrays(train=(IMAGES[:12], labels))), seed=0).info
    assert info.counts == dict.fromkeys(SPLITS, (1, 1, 1, 1))


def test_every_class_too_small_to_be_split_is_named_with_its_size():
    labels = np.concatenate([LABELS, [3, 4, 4]])
    arrays = Arrays(
        train=(np.zeros((203, 2, 2), np.uint8), labels), class_names=("a", "b", "c", "d", "e")
    )
    with pytest.raises(DataError, match=r"at least 3 training.*'d' \(1\), 'e' \(2\)"):
        open_data(Data(source=arrays), seed=0)


def test_shares_that_leave_too_little_are_named():
    labels = np.arange(6) % 2
    data = Data(source=Arrays(train=(IMAGES[:6], labels)), test=0.6, validation=0.3)
    with pytest.raises(DataError, match=r"'validation' split cannot be created.*Use smaller"):
        open_data(data, seed=0)


def test_a_class_without_any_example_is_warned_of(caplog):
    arrays = Arrays(train=(IMAGES, LABELS), class_names=("a", "b", "c", "never"))
    assert open_data(Data(source=arrays), seed=0).info.num_classes == 4
    (warning,) = caplog.messages
    assert "never" in warning


def test_splits_and_info_are_plain_values():
    splits = open_data(Data(source=SOURCE), seed=0)
    assert json.loads(json.dumps(splits.as_json())) == splits.as_json()
    assert json.loads(json.dumps(splits.info.as_json())) == splits.info.as_json()
    assert splits.as_json()["class_names"] == ["0", "1", "2"]


def test_an_unknown_kind_of_source_is_named():
    with pytest.raises(DataError, match="Received: 'ftp:x'"):
        open_data(Data(source="ftp:x"), seed=0)


def test_examples_without_classes_are_split_by_their_groups():
    def part(classes):
        occurrences = np.zeros((40, classes), np.int64)
        return Part(tuple(map(str, range(40))), np.arange(40) % 2, lambda *_: None, occurrences)

    listing = Listing((), {"train": part(0)})
    assert listing.all_faults() == []
    splits = make_splits(listing, "x", {"validation": 0.1, "test": 0.2}, seed=0)
    assert splits.info.sizes == {"train": 28, "validation": 4, "test": 8}
    assert splits.test.labels.sum() == 4
    assert set(splits.info.counts.values()) == {()}
    (fault,) = Listing((), {"train": part(1)}).all_faults()
    assert fault == "There must be at least 1 class. Received: none."
