import numpy as np
import psutil
import pytest

from sft_keras import Data
from sft_keras.core.errors import DataError
from sft_keras.data.batches import ordered_batches
from sft_keras.vision import preprocess as store
from sft_keras.vision.decode import read_pixels
from sft_keras.vision.preprocess import prepare_images
from sft_keras.vision.sources.open import open_data

SIZE = (6, 8)


def _prepare(splits, memory_share=0.25, progress=lambda done, total: None):
    return prepare_images(splits, SIZE, "stretch", memory_share, progress)


@pytest.fixture(scope="module")
def splits(tmp_path_factory, write_folders):
    root = write_folders(tmp_path_factory.mktemp("images"), {"a": 12, "b": 12})
    return open_data(Data(source=f"folder:{root}", validation=0.2, test=0.2), seed=0).by_name()


@pytest.fixture(scope="module")
def progress():
    """The calls while `kept` was made."""
    return []


@pytest.fixture(scope="module")
def kept(splits, progress):
    """All splits with their pixels in memory, read in batches of which splits take several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_BATCH", 5)
        return _prepare(splits, progress=lambda done, total: progress.append((done, total)))


def test_pixels_are_kept_in_stored_order(splits, kept):
    for name, examples in splits.items():
        features = kept[name].features.tensors
        assert features.dtype == np.uint8
        assert features.shape == (len(examples), *SIZE, 3)
        assert "CPU" in features.device
        for example in examples.stream(None):
            expected = read_pixels(example["image"], SIZE, "stretch").numpy()
            assert (features[example["index"]].numpy() == expected).all()


def test_pixels_beyond_the_share_of_free_memory_are_not_kept_but_read_all_the_same(
    splits, monkeypatch
):
    class Memory:
        available = 4 * len(splits["train"]) * 6 * 8 * 3 + 3

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    prepared = _prepare(splits, memory_share=0.25)
    assert prepared["train"].features is not None
    assert prepared["validation"].features is None
    assert prepared["test"].features is None


def test_streamed_pixels_are_those_in_memory(splits, kept):
    some = {"train": splits["train"]}
    kept, streamed = kept["train"], _prepare(some, memory_share=0.0)["train"]
    for one, other in zip(ordered_batches(kept, 5), ordered_batches(streamed, 5), strict=True):
        assert sorted(one) == ["index", "input", "label"]
        assert all((one[key].numpy() == other[key].numpy()).all() for key in one)
    assert (kept.digests == streamed.digests).all()


def test_digests_tell_images_apart_and_nothing_else(tmp_path, write_folders):
    root = write_folders(tmp_path, {"a": 12, "b": 12})
    (root / "a/000.png").write_bytes((root / "b/003.png").read_bytes())
    splits = open_data(Data(source=f"folder:{root}"), seed=0).by_name()
    digest_of = {
        name: digest.tobytes()
        for split, ready in _prepare(splits).items()
        for name, digest in zip(splits[split].ids, ready.digests)
    }
    assert digest_of["a/000.png"] == digest_of["b/003.png"]
    assert len(set(digest_of.values())) == 23
    test = {"test": splits["test"]}
    other_size = prepare_images(test, (8, 6), "stretch", 0.25, lambda done, total: None)
    assert digest_of[splits["test"].ids[0]] != other_size["test"].digests[0].tobytes()


def test_progress_runs_to_the_total_over_all_splits(kept, progress):
    assert len(progress) > len(kept)
    assert progress == sorted(progress)
    assert progress[-1] == (24, 24)
    assert {total for _, total in progress} == {24}


@pytest.mark.parametrize("memory_share", [0.25, pytest.param(0.0, marks=pytest.mark.slow)])
def test_every_file_that_cannot_be_read_is_named_over_all_splits(
    tmp_path, write_folders, memory_share
):
    folders = {f"{split}/{name}": 6 for split in ("train", "val", "test") for name in "ab"}
    write_folders(tmp_path, folders)
    whole = (tmp_path / "train/a/001.png").read_bytes()
    (tmp_path / "train/a/001.png").write_bytes(b"")
    (tmp_path / "train/b/003.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "val/a/005.png").rename(tmp_path / "val/a/005.jpg")
    (tmp_path / "val/a/005.jpg").write_text("dear reader")
    splits = open_data(Data(source=f"folder:{tmp_path}"), seed=0).by_name()
    (tmp_path / "test/b/000.png").unlink()
    with pytest.raises(DataError) as caught:
        _prepare(splits, memory_share)
    message = str(caught.value)
    assert "4 images cannot be read" in message
    assert "train/a/001.png (train): empty, 0 bytes" in message
    assert "train/b/003.png (train): a damaged or truncated PNG" in message
    assert "val/a/005.jpg (validation): not an image" in message
    assert "test/b/000.png (test): " in message
    assert "No such file" in message
    assert len(message.splitlines()) == 5


def test_of_many_unreadable_files_twenty_are_named_and_all_are_counted(tmp_path, write_folders):
    write_folders(tmp_path, {"a": 20, "b": 20})
    for path in list(tmp_path.rglob("*.png"))[:23]:
        path.write_bytes(b"x")
    splits = open_data(Data(source=f"folder:{tmp_path}"), seed=0).by_name()
    with pytest.raises(DataError) as caught:
        _prepare(splits)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("23 images cannot be read")
    assert lines[-1] == "  ... and 3 more."
    assert len(lines) == 22
