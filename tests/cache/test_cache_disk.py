"""Rows on disk come back bit for bit, and only what is the cache's own is deleted."""

import errno
import os
import shutil
import stat
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from stored_rows import (
    ABOUT,
    FIELDS,
    KEY,
    OTHER_KEY,
    expected_bytes,
    names_of,
    open_files,
    random_rows,
    stored_bytes,
    written,
)

from sft_keras.cache import disk
from sft_keras.cache.disk import DiskStore, store_folder
from sft_keras.cache.rows import Field, from_bytes, to_bytes
from sft_keras.cache.shard import PART, Shard, ShardWriter, delete_shard
from sft_keras.core.errors import RecipeError

# What is written comes back.


@pytest.mark.parametrize(
    "fields",
    [
        (Field("float32", (2, 3)),),
        (Field("float16", ()), Field("uint16", (4,)), Field("float64", (1, 1, 2))),
        (Field("int32", (5,)), Field("bool", (3,)), Field("uint8", (7, 1)), Field("float32", (0,))),
    ],
)
def test_rows_come_back_bit_for_bit_over_several_shards(store, fields):
    for first, count in ((0, 5), (5, 1), (6, 40)):
        written(store, first, count, fields=fields)
    collection = store.collection(KEY, fields)
    for first, count in ((6, 40), (0, 5), (5, 1)):
        rows = stored_bytes(collection, first, count)
        np.testing.assert_array_equal(rows, expected_bytes(first, count, fields))
        for found, array in zip(from_bytes(rows, fields), random_rows(fields, count, seed=first)):
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()
    mixed = collection.find(names_of(0, 46))[::-1]
    assert len(set(mixed)) == 46
    np.testing.assert_array_equal(collection.read(mixed)[-5:][::-1], expected_bytes(0, 5, fields))
    assert list(collection.find(names_of(46, 2))) == [-1, -1]


def test_rows_appended_in_parts_are_one_shard(store):
    writer = store.writer(KEY, FIELDS, ABOUT)
    (rows,) = random_rows(FIELDS, 5)
    for part in (slice(0, 2), slice(2, 2), slice(2, 5)):
        writer.append(names_of(0, 5)[part], [rows[part]])
    writer.commit()
    np.testing.assert_array_equal(stored_bytes(store.collection(KEY, FIELDS)), to_bytes([rows]))


def test_nothing_is_found_before_it_is_committed_nor_after_it_is_discarded(store):
    writer = store.writer(KEY, FIELDS, ABOUT)
    writer.append(names_of(0, 5), random_rows(FIELDS, 5))
    for _ in range(2):
        assert not list(store.shards())
        assert (store.collection(KEY, FIELDS).find(names_of(0, 5)) == -1).all()
        writer.discard()
    assert not list(store.partial_shards())


def test_a_shard_of_no_rows_is_none(store):
    store.writer(KEY, FIELDS, ABOUT).commit()
    assert not list(store.shards()) and not list(store.partial_shards())


def test_a_description_that_json_cannot_hold_fails_before_rows_are_computed(store):
    with pytest.raises(TypeError):
        store.writer(KEY, FIELDS, {"folder": Path()})
    assert not list(store.partial_shards())


def test_a_description_is_read_as_it_is_written(store):
    # Numbers for keys become strings in JSON, which are sorted in another order.
    writer = store.writer(KEY, FIELDS, {2: "two", 10: ("ten",), "a": float("inf")})
    writer.append(names_of(0, 5), random_rows(FIELDS, 5))
    writer.commit()
    (path,) = store.shards()
    assert Shard.load(path).about == {"2": "two", "10": ["ten"], "a": float("inf")}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_others_may_read_what_the_umask_lets_them(store):
    before = os.umask(0o022)
    try:
        path = written(store)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path / "rows")] == [0o755, 0o644]


def test_readers_in_several_threads_do_not_get_each_others_rows(store):
    fields = (Field("uint8", (1,)),)
    writer = store.writer(KEY, fields, ABOUT)
    values = np.arange(200, dtype=np.uint8)[:, None]
    writer.append(names_of(0, 200), [values])
    writer.commit()
    collection = store.collection(KEY, fields)
    wrong = []

    def read(seed):
        for numbers in np.random.default_rng(seed).integers(0, 200, (20, 500)):
            if (collection.read(numbers)[:, 0] != numbers).any():
                wrong.append(seed)

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(switching)
    assert not wrong


def test_a_closed_store_leaves_no_file_open_and_reads_no_more(store):
    before = open_files()
    for first in (0, 5):
        written(store, first)
    collections = [store.collection(KEY, FIELDS) for _ in range(2)]
    numbers = collections[0].find(names_of(0, 5))
    assert open_files() in (before, before + 4)  # where that can be counted
    store.close()
    assert open_files() == before
    with pytest.raises(ValueError, match="closed file"):
        collections[0].read(numbers)
    assert (collections[1].find(names_of(0, 5)) == -1).all()


# Room.


def age(path, seconds):
    for file in (path, *path.rglob("*")):
        os.utime(file, (time.time() - seconds,) * 2)


def test_what_was_used_longest_ago_is_pruned_first(store):
    # Not in the order of their paths.
    paths = [written(store, 0, key=OTHER_KEY), written(store, 5, key=KEY)]
    paths.append(written(store, 9, key=OTHER_KEY))
    for path, seconds in zip(paths, (300, 200, 100)):
        age(path, seconds)
    one = Shard.load(paths[0]).size
    assert store.prune(3 * one) == []
    store.collection(KEY, FIELDS)  # uses it
    assert store.prune(3 * one - 1) == [paths[0]]
    assert store.prune(one) == [paths[2]]
    assert list(store.shards()) == [paths[1]]
    assert store.prune(0) == [paths[1]]
    assert list(store.folder.iterdir()) == []


def test_pruning_deletes_what_is_damaged_and_stops_where_the_rest_fits(store):
    damaged, whole = written(store), written(store, first=5)
    os.truncate(damaged / "rows", 1)
    assert store.prune(10**9) == [damaged]
    assert list(store.shards()) == [whole]


def test_leftovers_of_dead_processes_are_deleted_once_they_are_old(store):
    left = [ShardWriter(store.folder / key, FIELDS, ABOUT)._path for key in (KEY, OTHER_KEY)]
    age(left[0], disk._ABANDONED_AFTER + 60)
    age(left[1], disk._ABANDONED_AFTER - 60)
    store.writer("c" * 64, FIELDS, ABOUT).discard()
    assert [path.exists() for path in left] == [False, True]
    age(left[1], disk._ABANDONED_AFTER + 60)
    (left[1] / "rows").touch()  # it is still being written
    store.prune(0)
    assert left[1].exists()
    age(left[1], disk._ABANDONED_AFTER + 60)
    store.prune(10**9)
    assert not left[1].exists()


def test_nothing_else_in_the_folder_is_deleted(store):
    # It may be a folder that holds other things: a home folder, or ~/.cache itself.
    path = written(store)
    others = [
        store.folder / "photos" / "holidays",
        store.folder / "photos" / f"{PART}old",
        store.folder / ("c" * 63) / ("d" * 32),
        store.folder / KEY / "notes",
    ]
    for other in others:
        other.mkdir(parents=True)
        (other / "file").write_text("mine")
        age(other, 10 * disk._ABANDONED_AFTER)
    store.collection(KEY, FIELDS)
    assert store.prune(0) == [path]
    store.delete(KEY)
    assert all((other / "file").read_text() == "mine" for other in others)


def test_a_shard_is_not_deleted_through_a_link(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    (store.folder / KEY).mkdir(parents=True)
    link = store.folder / KEY / ("d" * 32)
    link.symlink_to(mine, target_is_directory=True)
    store.prune(0)
    assert link.is_symlink() and (mine / "file").read_text() == "mine"


def test_a_deleted_collection_is_gone(store):
    written(store)
    other = written(store, key=OTHER_KEY)
    store.delete(KEY)
    store.delete("c" * 64)  # there is none
    assert list(store.shards()) == [other]


def test_what_another_process_was_faster_to_delete_is_no_fault(store, said, monkeypatch):
    path = written(store)
    monkeypatch.setattr(disk, "delete_shard", lambda path: [delete_shard(path) for _ in range(2)])
    assert store.prune(0) == [path]
    assert said == []


# Folders.


def test_the_free_room_is_told_of_a_folder_that_is_not_there_yet(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    there = DiskStore(tmp_path / "a" / "b" / "c").free()
    assert abs(there - free) < 2**28
    (tmp_path / "file").write_text("")
    assert abs(DiskStore(tmp_path / "file" / "cache").free() - free) < 2**28

    def hidden(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", hidden)
    assert DiskStore(Path("relative")).free() == 0


def test_a_folder_that_cannot_be_read_is_said_once_and_nothing_is_found(store, said, monkeypatch):
    written(store)

    def hidden(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", hidden)
    for _ in range(2):
        assert (store.collection(KEY, FIELDS).find(names_of(0, 5)) == -1).all()
    folder = store.folder / KEY
    assert said == [f"cache  cannot be read, skipped: {folder} (Permission denied)"]


def test_the_folder_is_what_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/other")
    monkeypatch.setenv("SFT_KERAS_CACHE", "~/mine")
    assert store_folder() == tmp_path / "mine"
    monkeypatch.delenv("SFT_KERAS_CACHE")
    assert store_folder() == tmp_path / "other" / "sft_keras"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store_folder() == tmp_path / ".cache" / "sft_keras"


def test_without_a_home_folder_the_message_says_what_to_set(monkeypatch):
    monkeypatch.delenv("SFT_KERAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~no_such_user_here/cache")
    with pytest.raises(RecipeError, match=r"the environment variable SFT_KERAS_CACHE to a folder"):
        store_folder()
