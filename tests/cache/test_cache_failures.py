"""Rows on disk are whole or not there, whatever other processes and the disk do."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stored_rows import (
    ABOUT,
    FIELDS,
    KEY,
    expected_bytes,
    flip,
    names_of,
    open_files,
    random_rows,
    stored_bytes,
    written,
)

from sft_keras.cache import shard
from sft_keras.cache.disk import DiskStore
from sft_keras.cache.rows import Field
from sft_keras.cache.shard import Shard
from sft_keras.core.reporter import CallbackReporter

# Several processes.


def test_two_processes_that_write_the_same_rows_both_succeed_and_leave_one_shard(tmp_path):
    rounds = 20
    code = f"""
import sys
from pathlib import Path
import numpy as np
from sft_keras.cache.disk import DiskStore
from sft_keras.cache.rows import Field

store = DiskStore(Path({str(tmp_path)!r}))
for number in range({rounds}):
    writer = store.writer(f"{{number:064x}}", (Field("float32", (1000,)),), {{}})
    names = np.arange(5 * 16, dtype=np.uint8).reshape(5, 16)
    writer.append(names, [np.arange(5000, dtype=np.float32).reshape(5, 1000)])
    print("ready", flush=True)
    sys.stdin.readline()
    writer.commit()
    (number,) = store.collection(f"{{number:064x}}", (Field("float32", (1000,)),)).find(names[:1])
    assert number == 0, number
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], text=True, bufsize=1, **pipes)
        for _ in range(2)
    ]
    for _ in range(rounds):
        if any(run.stdout.readline() != "ready\n" for run in runs):
            break
        for run in runs:
            run.stdin.write("go\n")
    ends = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    store = DiskStore(tmp_path)
    assert len(list(store.shards())) == rounds and not list(store.partial_shards())
    for path in store.shards():
        Shard.load(path).verify()


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes nothing that is open")
def test_a_shard_that_another_process_deletes_stays_readable_while_it_is_open(store):
    path = written(store)
    collection = store.collection(KEY, FIELDS)
    subprocess.run(
        [sys.executable, "-c", f"import shutil; shutil.rmtree({str(path)!r})"], check=True
    )
    np.testing.assert_array_equal(stored_bytes(collection), expected_bytes())


@pytest.mark.parametrize("when", ["load", "verify", "names", "open_rows"])
def test_a_shard_that_another_process_deletes_meanwhile_is_not_called_damaged(
    store, said, monkeypatch, when
):
    written(store)
    step = getattr(Shard, when)

    def too_late(*arguments):
        DiskStore(store.folder).delete(KEY)
        return step(*arguments)

    monkeypatch.setattr(Shard, when, too_late)
    assert (store.collection(KEY, FIELDS).find(names_of(0, 5)) == -1).all()
    assert said == []


def test_a_collection_that_is_pruned_away_while_it_is_written_is_an_error_and_no_crash(store):
    writer = store.writer(KEY, FIELDS, ABOUT)
    shutil.rmtree(store.folder)
    writer.append(names_of(0, 5), random_rows(FIELDS, 5))
    with pytest.raises(OSError):
        writer.commit()
    writer.discard()


# Disks that fail.


class Failing:
    """Has the file system fail at one call, counted from 1."""

    def __init__(self, monkeypatch, at):
        self.calls, self.at = 0, at
        opened = Path.open

        def count(call, *arguments, **options):
            self.calls += 1
            if self.calls == self.at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*arguments, **options)

        class File:
            def __init__(self, file):
                self._file = file

            def __getattr__(self, name):
                return getattr(self._file, name)

            def write(self, values):
                return count(self._file.write, values)

            def flush(self):
                return count(self._file.flush)

            def close(self):
                try:
                    count(lambda: None)
                finally:
                    self._file.close()  # as Python does where the last flush fails

            def __enter__(self):
                return self

            def __exit__(self, *failure):
                self.close()

        def open_counted(path, mode="r", *arguments, **options):
            if "w" not in mode:
                return opened(path, mode, *arguments, **options)
            return File(count(opened, path, mode, *arguments, **options))

        monkeypatch.setattr(Path, "open", open_counted)
        for place, name in ((Path, "mkdir"), (Path, "rename"), (os, "fsync")):
            call = getattr(place, name)
            monkeypatch.setattr(
                place, name, lambda *given, call=call, **options: count(call, *given, **options)
            )


def write_as_a_run_does(store):
    """Returns whether the rows were written; as `Sink` does, discards after an error."""
    writer = None
    try:
        writer = store.writer(KEY, FIELDS, ABOUT)
        for first in (0, 5):
            writer.append(names_of(first, 5), random_rows(FIELDS, 5, seed=first))
        writer.commit()
    except OSError as error:
        assert error.errno == errno.ENOSPC
        if writer is not None:
            writer.discard()
        return False
    return True


@pytest.mark.parametrize("synced_every", [1, 2**26])
def test_a_disk_that_fails_at_any_call_leaves_no_shard_and_no_rubbish(
    tmp_path, monkeypatch, synced_every
):
    monkeypatch.setattr(shard, "_SYNCED_EVERY", synced_every)
    failures = 0
    for at in range(1, 100):
        store = DiskStore(tmp_path / str(at))
        before = open_files()
        with monkeypatch.context() as patched:
            failing = Failing(patched, at)
            is_written = write_as_a_run_does(store)
        assert open_files() == before
        assert not list(store.partial_shards())
        if is_written:
            rows = stored_bytes(store.collection(KEY, FIELDS), 5)
            np.testing.assert_array_equal(rows, expected_bytes(5))
        else:
            failures += 1
            assert not list(store.shards())
            assert write_as_a_run_does(store)  # once there is room
        if failing.calls < at:
            break
    # mkdir (it, and the parents), three files opened, written, flushed, synced and closed, rename.
    assert failures >= 15
    assert is_written and failing.calls < at


def test_a_disk_that_is_really_full_is_an_error_that_leaves_nothing(small_disk):
    store, fields = DiskStore(small_disk / "cache"), (Field("float32", (1000,)),)
    whole = written(store, 0, 5, fields=fields)
    free = store.free()
    writer = store.writer(KEY, fields, ABOUT)
    with pytest.raises(OSError) as caught:
        for first in range(5, 1005, 10):
            writer.append(names_of(first, 10), random_rows(fields, 10))
        writer.commit()
    assert caught.value.errno == errno.ENOSPC
    assert store.free() < 2**16
    writer.discard()
    assert list(store.shards()) == [whole] and not list(store.partial_shards())
    assert store.free() == free
    rows = stored_bytes(store.collection(KEY, fields))
    np.testing.assert_array_equal(rows, expected_bytes(fields=fields))


def test_a_folder_that_is_read_only_serves_what_it_has(small_disk, make_read_only, said):
    store = DiskStore(small_disk / "cache", CallbackReporter(said.append))
    good, bad = written(store, 0), written(store, 5)
    flip(bad / "rows")
    make_read_only()
    collection = store.collection(KEY, FIELDS)
    np.testing.assert_array_equal(stored_bytes(collection), expected_bytes())
    assert (collection.find(names_of(5, 5)) == -1).all()
    assert len(said) == 2 and said[0].startswith(f"cache  damaged, will be computed again: {bad} (")
    assert said[1].startswith(f"cache  cannot be deleted, skipped: {bad} (")
    with pytest.raises(OSError):
        store.writer(KEY, FIELDS, ABOUT)
    # What was found to be wrong is not found again, though it is still there.
    store.delete(KEY)
    assert not list(store.shards(KEY)) and good.exists()
    assert DiskStore(store.folder).prune(0) == []
