"""Several processes or devices on this machine train one model, as one device does.

Each is started as a user's launcher does it, with a TF_CONFIG of its own.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("program.py")
IN_HEAD, IN_TOP = 17, 37  # steps of the plans, of which each stage has 26


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a worker left: its exit status, and all it printed."""

    status: int
    said: str


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def together(count, plan, folder, preset, how="new", sent=None, at=None, **environment):
    """Runs a plan with so many processes; `sent` is a signal for the last of them at a step."""
    folder.mkdir(exist_ok=True)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    started = []
    for index in range(count):
        changed = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        if count > 1:
            task = {"type": "worker", "index": index}
            changed["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        changed |= environment
        if sent is not None and index == count - 1:
            changed |= {"DIES_AT": str(at), "SIGNAL": str(int(sent))}
        command = [sys.executable, str(PROGRAM), plan, str(folder), preset, how]
        started.append(
            subprocess.Popen(
                command,
                env=changed,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    said = [each.communicate(timeout=240)[0] for each in started]
    return [Ended(each.returncode, text) for each, text in zip(started, said)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_preset):
    """Returns what a plan gives in one process."""
    known = {}

    def run(plan):
        if plan not in known:
            folder = tmp_path_factory.mktemp("alone")
            (ended,) = together(1, plan, folder, tiny_preset)
            assert ended.status == 0, ended.said[-3000:]
            known[plan] = np.load(folder / "result.npz")
        return known[plan]

    return run


def assert_ended_well(workers):
    for worker in workers:
        assert worker.status == 0, worker.said[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "count"), [("remembering", 4), ("batch_norm", 2), ("tokens", 2)])
def test_workers_train_what_one_process_does(plan, count, alone, tiny_preset, tmp_path):
    workers = together(count, plan, tmp_path, tiny_preset)
    assert_ended_well(workers)
    assert f"{count} workers" in workers[0].said and "epoch" not in workers[1].said
    assert_alike(np.load(tmp_path / "result.npz"), alone(plan))


@pytest.mark.slow
def test_workers_that_draw_other_dropout_take_the_rate_that_the_chief_found(tiny_preset, tmp_path):
    assert_ended_well(together(2, "found_rate", tmp_path, tiny_preset))


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "count"), [("averaging", 4), ("batch_norm", 2), ("tokens", 2)])
def test_devices_of_one_process_train_what_one_does(plan, count, alone, tiny_preset, tmp_path):
    (ended,) = together(1, plan, tmp_path, tiny_preset, VIRTUAL=str(count))
    assert_ended_well([ended])
    assert f"{count} devices of this machine" in ended.said
    assert_alike(np.load(tmp_path / "result.npz"), alone(plan))


@pytest.mark.slow
def test_a_run_on_devices_of_one_process_goes_on_to_the_same_weights(tiny_preset, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    on_two = {"VIRTUAL": "2"}
    assert_ended_well(together(1, "averaging", whole, tiny_preset, **on_two))
    signalled = {"sent": signal.SIGTERM, "at": IN_TOP}
    (ended,) = together(1, "averaging", stopped, tiny_preset, **signalled, **on_two)
    assert ended.status == 143
    assert_ended_well(together(1, "averaging", stopped, tiny_preset, how="resume", **on_two))
    found, expected = np.load(stopped / "result.npz"), np.load(whole / "result.npz")
    for name in expected:
        if name != "steps":
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def assert_alike(found, expected):
    assert sorted(found) == sorted(expected)
    # The examples that each step has counted: all of them, each once, in each epoch.
    np.testing.assert_array_equal(found["steps"][:, 1], expected["steps"][:, 1])
    assert found["steps"][12, 1] == 101
    for name in expected:
        # Some have a gradient that is 0 but for rounding, such as biases of keys in attention.
        scale = max(1e-6, np.abs(expected[name].astype(float)).max())
        off = np.abs(found[name].astype(float) - expected[name].astype(float)).max()
        assert off <= 1e-5 * scale, name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, tiny_preset):
    """What two workers give that nothing happens to."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert_ended_well(together(2, "remembering", folder, tiny_preset))
    return np.load(folder / "result.npz")


@pytest.mark.slow
@pytest.mark.parametrize("at", [IN_HEAD, IN_TOP])
def test_a_worker_that_is_killed_ends_the_others_and_all_go_on(at, unbroken, tiny_preset, tmp_path):
    chief, _ = together(2, "remembering", tmp_path, tiny_preset, sent=signal.SIGKILL, at=at)
    assert chief.status == 2
    assert "Worker 1 (127.0.0.1:" in chief.said and "has gone" in chief.said
    assert_ended_well(together(2, "remembering", tmp_path, tiny_preset, how="resume"))
    found = np.load(tmp_path / "result.npz")
    for name in unbroken:
        if name != "steps":
            np.testing.assert_array_equal(found[name], unbroken[name], err_msg=name)


@pytest.mark.slow
def test_a_worker_that_is_to_end_ends_all_at_one_step_with_a_checkpoint(tiny_preset, tmp_path):
    workers = together(2, "plain", tmp_path, tiny_preset, sent=signal.SIGTERM, at=IN_HEAD)
    assert [each.status for each in workers] == [130, 143]
    for worker in workers:
        assert f"--resume={tmp_path / 'run'}" in worker.said
    assert_ended_well(together(2, "plain", tmp_path, tiny_preset, how="resume"))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("head  epoch 1/2") == log.count("head  epoch 2/2") == 1
