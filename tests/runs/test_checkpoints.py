"""Snapshots and checkpoints on disk: whole or not at all, whatever happens while they are written.

No TensorFlow.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sft_keras.core import files as durable_files
from sft_keras.core import snapshot
from sft_keras.core.errors import RunFolderError
from sft_keras.core.reporter import CallbackReporter
from sft_keras.core.snapshot import DamagedSnapshotError, Snapshot, read_snapshot, write_snapshot
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.lock import lock_run


def state(number: int) -> Snapshot:
    random = np.random.default_rng(number)
    arrays = {
        "weights/a": random.normal(size=(3, 4)).astype(np.float32),
        "weights/b": random.normal(size=(4, 3)).T,  # not contiguous
        "step": np.array(number, np.int64),
        "nothing": np.zeros((0, 2), np.uint8),
        "bad": np.array([np.nan, np.inf, -0.0], np.float32),
    }
    return Snapshot({"step": number, "loss": 0.1 + 0.2, "best": float("nan"), "ü": [1]}, arrays)


def assert_same(found: Snapshot, expected: Snapshot):
    assert str(found.facts) == str(expected.facts)  # NaN is not equal to itself
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].tobytes() == np.ascontiguousarray(array).tobytes()


def test_a_snapshot_is_read_as_it_was_written(tmp_path):
    write_snapshot(tmp_path / "one", state(3))
    assert_same(read_snapshot(tmp_path / "one"), state(3))
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["arrays.safetensors", "facts.json"])
def test_any_changed_or_missing_byte_is_noticed(tmp_path, name):
    whole = tmp_path / "whole"
    write_snapshot(whole, state(1))
    right = (whole / name).read_bytes()
    random = np.random.default_rng(0)
    places = {0, len(right) - 1, *random.integers(0, len(right), 40).tolist()}
    for place in places:
        changed = bytearray(right)
        changed[place] ^= 1 << int(random.integers(8))
        for damaged in (bytes(changed), right[:place]):
            (whole / name).write_bytes(damaged)
            with pytest.raises(DamagedSnapshotError):
                read_snapshot(whole)
    (whole / name).unlink()
    with pytest.raises(DamagedSnapshotError):
        read_snapshot(whole)


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_found(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    for number in range(1, 5):
        checkpoints.write(state(number))
        assert_same(checkpoints.newest(), state(number))
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["00000003", "00000004"]


@pytest.mark.parametrize("how", ["torn", "deleted"])
def test_what_is_damaged_is_said_and_the_one_before_is_taken(tmp_path, how):
    said = []
    checkpoints = Checkpoints(tmp_path, CallbackReporter(said.append))
    for number in (1, 2):
        checkpoints.write(state(number))
    newest = checkpoints.folder / "00000002"
    if how == "torn":
        os.truncate(newest / "arrays.safetensors", 100)
    else:
        shutil.rmtree(newest)
    assert_same(checkpoints.newest(), state(1))
    assert [str(newest) in line for line in said] == ([True] if how == "torn" else [])
    checkpoints.write(state(3))
    assert_same(checkpoints.newest(), state(3))
    for path in checkpoints.folder.iterdir():
        (path / "facts.json").write_text("{")
    assert checkpoints.newest() is None


# A disk that fails


class Failing:
    """Lets the calls that write fail, from the n-th on, as those of a full disk do."""

    def __init__(self, monkeypatch, first: int | None) -> None:
        self.calls, self._first = 0, first
        for module, name in (
            (snapshot, "save_file"),
            (durable_files.os, "fsync"),
            (Path, "mkdir"),
            (Path, "rename"),
            (Path, "replace"),
        ):
            monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, function):
        def call(*arguments, **named):
            self.calls += 1
            if self._first is not None and self.calls >= self._first:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **named)

        return call


def test_wherever_the_disk_is_full_the_checkpoint_before_stays(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        calls = Failing(patch, None)
        checkpoints = Checkpoints(tmp_path / "counted")
        checkpoints.write(state(1))
        first = calls.calls
        checkpoints.write(state(2))
        total = calls.calls - first
    assert total >= 6
    for fails_at in range(1, total + 1):
        checkpoints = Checkpoints(tmp_path / str(fails_at))
        checkpoints.write(state(1))
        with pytest.MonkeyPatch.context() as patch:
            Failing(patch, fails_at)
            try:
                checkpoints.write(state(2))
                is_written = True
            except OSError as error:
                assert error.errno == errno.ENOSPC
                is_written = False
        found = checkpoints.newest()
        if is_written or found.facts["step"] == 2:  # what failed came after it was there
            assert_same(found, state(2))
        else:
            assert_same(found, state(1))
        assert not [path for path in checkpoints.folder.iterdir() if path.name.startswith(".part")]


# Parts that are done once


def test_a_part_is_done_once_and_again_if_its_record_is_damaged(tmp_path):
    checkpoints, done = Checkpoints(tmp_path), []

    def do():
        done.append(1)
        return Snapshot({"score": np.float32(0.5), "shape": (2, 3)}, {"x": np.arange(3)})

    given, again = (checkpoints.run_once("evaluated", do) for _ in range(2))
    assert len(done) == 1
    assert given.facts == again.facts == {"score": 0.5, "shape": [2, 3]}
    np.testing.assert_array_equal(given.arrays["x"], again.arrays["x"])
    os.truncate(checkpoints.folder / "evaluated" / "facts.json", 3)
    assert checkpoints.run_once("evaluated", do).facts == given.facts
    assert len(done) == 2
    checkpoints.forget("evaluated", "never_done")
    checkpoints.run_once("evaluated", do)
    assert len(done) == 3


# Two runs in one folder

_HOLDER = """
import sys, time
from pathlib import Path
from sft_keras.runs.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_a_dead_one_holds_nobody_up(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(RunFolderError, match="Another process is running in")
        with refused, lock_run(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock_run(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
