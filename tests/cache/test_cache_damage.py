"""Damaged rows are noticed, said, deleted, and mended by computing them anew."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from stored_rows import (
    ABOUT,
    FIELDS,
    KEY,
    OTHER_KEY,
    expected_bytes,
    flip,
    names_of,
    random_rows,
    stored_bytes,
    written,
)

from sft_keras.cache.shard import DamagedShardError, Shard

FILES = ("about.json", "names", "rows")


def cut_off(file):
    os.truncate(file, file.stat().st_size - 1)


def prolong(file):
    file.write_bytes(file.read_bytes() + b"x")


def empty(file):
    os.truncate(file, 0)


def replace_by_a_folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = (cut_off, prolong, flip, empty, Path.unlink, replace_by_a_folder)


def assert_noticed_and_mended(store, said, path):
    """What was damaged is not found, said, deleted, and can be written again."""
    collection = store.collection(KEY, FIELDS)
    assert (collection.find(names_of(0, 5)) == -1).all()
    assert len(said) == 1 and said[0].startswith(
        f"cache  damaged, will be computed again: {path} ("
    )
    assert not path.exists() and not list(store.partial_shards())
    written(store)
    np.testing.assert_array_equal(stored_bytes(store.collection(KEY, FIELDS)), expected_bytes())
    assert len(said) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows lets no one read a folder as a file")
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_noticed_and_mended(store, said, name, damage):
    path = written(store)
    damage(path / name)
    assert_noticed_and_mended(store, said, path)


def test_a_bit_of_the_description_that_turns_is_noticed_or_says_the_same(store):
    path = written(store)
    file, whole = path / "about.json", Shard.load(path)
    content = file.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        try:
            found = Shard.load(path)
        except DamagedShardError:
            continue
        assert dataclasses.replace(found, used=whole.used) == whole


def junk(size):
    return np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()


def padded(text):
    return lambda size: text.encode().ljust(size)


@pytest.mark.parametrize(
    "content",
    [
        junk,
        padded(""),
        padded("{}"),
        padded("[]"),
        padded("null"),
        padded("17"),
        padded('"text"'),
        padded('{"checksum": null}'),
        lambda size: b"[" * size,
        lambda size: b"[" * 100_000,
        lambda size: bytes(size),
    ],
)
def test_a_description_replaced_by_something_of_the_same_size_is_noticed(store, said, content):
    path = written(store)
    file = path / "about.json"
    file.write_bytes(content(file.stat().st_size))
    assert_noticed_and_mended(store, said, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 3},
        {"count": "5"},
        {"count": None},
        {"format": 2},
        {"fields": [["float32", [3, 2]]]},
        {"fields": [["int32", [2, 3]]]},
        {"fields": [["nothing", [2, 3]]]},
        {"fields": [["float32", "23"]]},
        {"fields": {}},
        {"checksums": {}},
        {"checksums": []},
        {"checksums": {"names": "0" * 64, "rows": "0" * 64}},
        {"checksums": {"/dev/null": hashlib.sha256().hexdigest()}},
        {"about": "text"},
        {"about": None},
    ],
)
def test_a_description_of_something_else_with_a_checksum_that_fits_is_noticed(store, said, changes):
    path = written(store)
    file = path / "about.json"
    text = {**json.loads(file.read_text()), **changes}
    del text["checksum"]
    summed = json.dumps(text, sort_keys=True).encode()
    file.write_text(json.dumps({**text, "checksum": hashlib.sha256(summed).hexdigest()}))
    if changes == {"count": "5"}:
        assert Shard.load(path).count == 5  # as good as the number
        return
    assert_noticed_and_mended(store, said, path)


def test_the_description_of_another_shard_is_noticed(store, said):
    path, other = written(store), written(store, first=7, key=OTHER_KEY)
    shutil.copy(other / "about.json", path / "about.json")
    assert_noticed_and_mended(store, said, path)


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error_and_no_crash(store):
    path = written(store)
    collection = store.collection(KEY, FIELDS)
    os.truncate(path / "rows", 3 * FIELDS[0].size - 1)
    np.testing.assert_array_equal(stored_bytes(collection, 0, 2), expected_bytes()[:2])
    with pytest.raises(OSError, match="truncated while in use"):
        stored_bytes(collection, 2, 1)


def test_a_damaged_shard_does_not_stop_the_same_rows_from_being_committed(store):
    writer = store.writer(KEY, FIELDS, ABOUT)
    writer.append(names_of(0, 5), random_rows(FIELDS, 5))
    flip(written(store) / "rows")  # by another run, while this one computes
    writer.commit()
    np.testing.assert_array_equal(stored_bytes(store.collection(KEY, FIELDS)), expected_bytes())
    assert not list(store.partial_shards())


def test_what_cannot_be_opened_is_left_alone_and_shifts_no_other_rows(store, said, monkeypatch):
    # As where a process has too many files open, or another user's files may not be read.
    paths = [written(store, 0, 5), written(store, 5, 5)]
    opened = Shard.open_rows
    (first, second) = sorted(paths)

    def failing(self):
        if self.path == first:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(self)

    monkeypatch.setattr(Shard, "open_rows", failing)
    collection = store.collection(KEY, FIELDS)
    assert said == [f"cache  cannot be read, skipped: {first} (Too many open files)"]
    starts = dict(zip(paths, (0, 5)))
    assert (collection.find(names_of(starts[first], 5)) == -1).all()
    rows = stored_bytes(collection, starts[second])
    np.testing.assert_array_equal(rows, expected_bytes(starts[second]))
    monkeypatch.undo()
    whole = store.collection(KEY, FIELDS)
    np.testing.assert_array_equal(stored_bytes(whole, starts[first]), expected_bytes(starts[first]))
