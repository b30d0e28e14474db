import pytest
import tensorflow as tf

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.vision.sources.open import open_data


def _open(root, **fields):
    return open_data(Data(source=f"folder:{root}", **fields), seed=0)


def test_class_folders_are_the_classes_and_files_come_sorted(tmp_path, write_folders):
    write_folders(tmp_path, {"b": 4, "a": 4, "a/deeper": 2})
    splits = _open(tmp_path, validation=0.2, test=0.2)
    assert splits.info.class_names == ("a", "b")
    ids = [*splits.train.ids, *splits.validation.ids, *splits.test.ids]
    assert sorted(ids) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")
    )
    assert list(splits.train.ids) == sorted(splits.train.ids)
    for split in (splits.train, splits.validation, splits.test):
        for each, label in zip(split.ids, split.labels):
            assert each.startswith(splits.info.class_names[label])


@pytest.mark.parametrize(
    "words",
    [("train", "val", "test"), ("Training", "valid", "Test"), ("train", "validation", "test")],
)
def test_split_folders_are_kept_as_they_are(tmp_path, write_folders, words):
    write_folders(tmp_path, {f"{word}/{name}": 2 for word in words for name in "ab"})
    splits = _open(tmp_path)
    assert splits.info.sizes == {"train": 4, "validation": 4, "test": 4}
    assert set(splits.info.origin.values()) == {"from the source"}
    assert all(each.startswith(words[1]) for each in splits.validation.ids)


def test_a_lacking_split_is_made_from_train_only(tmp_path, write_folders):
    write_folders(tmp_path, {"train/a": 10, "train/b": 10, "val/a": 2, "val/b": 2})
    splits = _open(tmp_path)
    assert splits.info.sizes == {"train": 18, "validation": 4, "test": 2}
    assert splits.info.origin["validation"] == "from the source"
    assert splits.info.origin["test"].startswith("created here: 0.1 of train")
    assert all(each.startswith("train/") for each in splits.test.ids)


def test_a_class_may_be_called_like_a_split(tmp_path, write_folders):
    write_folders(tmp_path, {"bus": 5, "train": 5})
    assert _open(tmp_path).info.class_names == ("bus", "train")


def test_hidden_and_other_files_are_left_out_and_endings_count_in_any_case(
    tmp_path, write_folders, caplog
):
    write_folders(tmp_path, {"a": 4, "b": 4, ".cache": 3, "a/.thumbs": 3})
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "000.PNG")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    (tmp_path / "b" / "notes.txt").write_text("x")
    splits = _open(tmp_path)
    assert sum(splits.info.sizes.values()) == 8
    assert splits.info.class_names == ("a", "b")
    (warning,) = caplog.messages
    assert "1 x .txt" in warning


def test_faults_of_a_folder_are_listed_at_once(tmp_path, write_folders):
    write_folders(
        tmp_path,
        {"train/a": 3, "train/empty": 0, "val/a": 1, "val/c": 1, "valid/a": 1, "other/a": 1},
    )
    with pytest.raises(DataError) as caught:
        _open(tmp_path)
    for expected in (
        "class folder 'train/empty' has no image",
        "Two folders are the 'validation' split: 'val' and 'valid'",
        "Next to the split folders train, val there are others: other",
        "'validation' split has classes without training examples: 'c'",
    ):
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"only": 9}, "at least 2 classes. Received: 'only'"),
        ({}, "has 0 images and no class folders"),
        ({"val/a": 3, "val/b": 3}, "no examples to train on. Received: validation \\(6\\)"),
        (
            {"a": 9, "b": 1, "c": 2},
            r"at least 3 training examples.*Too small: 'b' \(1\), 'c' \(2\)",
        ),
    ],
)
def test_each_fault_of_a_folder_is_named(tmp_path, write_folders, folders, expected):
    with pytest.raises(DataError, match=expected):
        _open(write_folders(tmp_path, folders))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="must name an existing folder"):
        _open(tmp_path / "none")


def test_the_stream_reads_the_files_themselves_in_any_order(tmp_path, write_folders):
    splits = _open(write_folders(tmp_path, {"a": 12, "b": 12}))
    for seed in (None, tf.constant([1, 2], tf.int64)):
        for example in splits.train.stream(seed).as_numpy_iterator():
            path = tmp_path / splits.train.ids[example["index"]]
            assert example["image"] == path.read_bytes()


def test_images_without_class_folders_are_answered_with_what_is_expected(tmp_path):
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.png").touch()
    with pytest.raises(DataError, match=r"one subfolder of images per class.* has 2 images and"):
        _open(tmp_path)


def test_names_with_further_words_are_splits_and_said(tmp_path, write_folders):
    write_folders(tmp_path, {"training_set/a": 5, "training_set/b": 5, "test_set/a": 2})
    info = _open(tmp_path).info
    assert info.class_names == ("a", "b")
    assert info.sizes["test"] == 2
    assert "'training_set' was read as the split train." in info.facts["notes"]


def test_repeated_folders_and_images_without_classes_are_said(tmp_path, write_folders):
    folders = {f"seg_{split}/seg_{split}/{name}": 4 for split in ("train", "test") for name in "ab"}
    info = _open(write_folders(tmp_path, {**folders, "seg_pred/seg_pred": 3})).info
    assert info.class_names == ("a", "b")
    assert info.sizes["test"] == 8
    assert any("not read (images): 'seg_pred' (3)" in note for note in info.facts["notes"])


def test_class_folders_one_level_deeper_are_found_and_said(tmp_path, write_folders):
    info = _open(write_folders(tmp_path, {"mine/a": 9, "mine/b": 9, "__MACOSX/mine": 3})).info
    assert info.class_names == ("a", "b")
    assert info.facts["notes"] == ["The images were found one level deeper, in 'mine'."]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"train": 9, "test": 9}, "test, train look like splits, but have no class folders"),
        ({f"{group}/{name}": 5 for group in "xy" for name in "ab"}, "such as 'folder:.*/x'"),
        (
            {f"{split}/{name}": 5 for split in ("val", "train", "valid_set") for name in "ab"},
            "Two folders are the 'validation' split: 'val' and 'valid_set'",
        ),
    ],
)
def test_ambiguous_folders_are_not_trained_on(tmp_path, write_folders, folders, expected):
    with pytest.raises(DataError, match=expected):
        _open(write_folders(tmp_path, folders))


def test_images_are_known_by_their_content_and_others_are_counted(tmp_path, write_folders):
    write_folders(tmp_path, {"a": 9, "b": 9})
    for number, ending in enumerate(("", ".jfif", ".jpe", ".heic", ".photo")):
        (tmp_path / f"a/00{number}.png").rename(tmp_path / f"a/{number}{ending}")
    (tmp_path / "b/notes.txt").write_text("BM is a start that a text may have, too.")
    (tmp_path / "b/README").touch()
    info = _open(tmp_path).info
    assert sum(info.sizes.values()) == 18
    assert info.facts["dropped"] == {"not an image (.txt)": 1, "not an image (no ending)": 1}
