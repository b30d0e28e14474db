import pytest

from sft_keras.data.split_names import SplitName, find_split_name, parse_split_name


@pytest.mark.parametrize(
    ("words", "split"),
    [
        (("train", "TRAINING", " Train ", "trn", "trainset"), "train"),
        (("val", "Valid", "validation", "dev", "EVAL", "valset"), "validation"),
        (("test", "Testing", "testset", "tst"), "test"),
        (("cats", "training wheels", "", "pretrain", "set"), None),
    ],
)
def test_common_words_are_split_names(words, split):
    assert [parse_split_name(word) for word in words] == [split] * len(words)


@pytest.mark.parametrize(
    "name",
    [
        "training_set",
        "train_images",
        "Train-Data",
        "trainImages",
        "seg_train",
        "the.train.set",
        "TRAIN2017",
    ],
)
def test_words_that_say_nothing_may_stand_beside(name):
    assert find_split_name(name) == SplitName("train", is_certain=True)


@pytest.mark.parametrize("name", ["train_station", "cifar10-train", "freightTrain", "model train"])
def test_other_words_make_it_uncertain(name):
    assert find_split_name(name) == SplitName("train", is_certain=False)


@pytest.mark.parametrize("name", ["restaurant", "train_vs_test", "constraint", "images", "", "été"])
def test_parts_of_words_and_two_splits_are_none(name):
    assert find_split_name(name) is None
