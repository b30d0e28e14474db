"""Several processes or devices on this machine train one model, as one device does.

Each is started as a user's launcher does it, with a TF_CONFIG of its own.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
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


def begin(count, plan, folder, preset, how="new", sent=None, at=None, hosts=None, **environment):
    """Starts a plan with so many processes; `sent` is a signal for the last of them at a step.

    Values of `environment` that are lists have one for each process.
    """
    folder.mkdir(exist_ok=True)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    if hosts is not None:
        addresses = [f"{host.address}:2222" for host in hosts]
    started = []
    for index in range(count):
        changed = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        if count > 1:
            task = {"type": "worker", "index": index}
            changed["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        for name, value in environment.items():
            changed[name] = value[index] if isinstance(value, list) else value
        if sent is not None and index == count - 1:
            changed |= {"DIES_AT": str(at), "SIGNAL": str(int(sent))}
        command = [sys.executable, str(PROGRAM), plan, str(folder), preset, how]
        if hosts is not None:
            command = ["ip", "netns", "exec", hosts[index].name, *command]
        started.append(
            subprocess.Popen(
                command,
                env=changed,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    return started


def ended(started):
    """Waits for processes; returns what each left."""
    said = [each.communicate(timeout=240)[0] for each in started]
    return [Ended(each.returncode, text) for each, text in zip(started, said)]


def together(*arguments, **named):
    """Runs what `begin` starts; returns what each process left."""
    return ended(begin(*arguments, **named))


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
@pytest.mark.parametrize(
    ("plan", "count"),
    [
        pytest.param("remembering", 4, marks=pytest.mark.nightly),
        ("batch_norm", 2),
        pytest.param("tokens", 2, marks=pytest.mark.nightly),
    ],
)
def test_workers_train_what_one_process_does(plan, count, alone, tiny_preset, tmp_path):
    workers = together(count, plan, tmp_path, tiny_preset)
    assert_ended_well(workers)
    assert f"{count} workers" in workers[0].said and "epoch" not in workers[1].said
    assert_alike(np.load(tmp_path / "result.npz"), alone(plan))


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_workers_share_out_what_frozen_blocks_compute(is_shared, alone, tiny_preset, tmp_path):
    folders = [str(tmp_path / f"cache{0 if is_shared else index}") for index in range(2)]
    workers = together(2, "on_disk", tmp_path, tiny_preset, SFT_KERAS_CACHE=folders)
    assert_ended_well(workers)
    # Two views of each of 101 images for training, and 25 to validate.
    assert "227 examples" in workers[0].said and "by 2 workers" in workers[0].said
    assert_alike(np.load(tmp_path / "result.npz"), alone("on_disk"))
    counts = [
        json.loads(each.read_text())["count"] for each in Path(folders[0]).glob("*/*/about.json")
    ]
    # At each of two boundaries one folder has what each has computed; of two, each has all.
    expected = [9, 16, 98, 104] if is_shared else [25, 202]
    assert sorted(counts) == sorted(2 * expected)
    if is_shared:  # what several have stored is found by one
        again = tmp_path / "again"
        (one,) = together(1, "on_disk", again, tiny_preset, SFT_KERAS_CACHE=folders[0])
        assert_ended_well([one])
        assert "found on disk" in one.said


@pytest.mark.nightly
@pytest.mark.slow
def test_workers_that_draw_other_dropout_take_the_rate_that_the_chief_found(tiny_preset, tmp_path):
    assert_ended_well(together(2, "found_rate", tmp_path, tiny_preset))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "count"),
    [
        pytest.param("averaging", 4, marks=pytest.mark.nightly),
        pytest.param("batch_norm", 2, marks=pytest.mark.nightly),
        ("tokens", 2),
    ],
)
def test_devices_of_one_process_train_what_one_does(plan, count, alone, tiny_preset, tmp_path):
    (ended,) = together(1, plan, tmp_path, tiny_preset, VIRTUAL=str(count))
    assert_ended_well([ended])
    assert f"{count} devices of this machine" in ended.said
    assert_alike(np.load(tmp_path / "result.npz"), alone(plan))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "count"),
    [
        pytest.param("averaging", 3, marks=pytest.mark.nightly),
        pytest.param("batch_norm", 2, marks=pytest.mark.nightly),
        pytest.param("tokens", 2, marks=pytest.mark.nightly),
    ],
)
def test_devices_with_batches_of_one_size_train_what_one_does(
    plan, count, alone, tiny_preset, tmp_path
):
    how = {"VIRTUAL": str(count), "COMPILED": "yes"}
    (ended,) = together(1, plan, tmp_path, tiny_preset, **how)
    assert_ended_well([ended])
    assert f"each computes {-(-8 // count)} rows" in ended.said
    assert_alike(np.load(tmp_path / "result.npz"), alone(plan))


@pytest.mark.nightly
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
@pytest.mark.parametrize("at", [pytest.param(IN_HEAD, marks=pytest.mark.nightly), IN_TOP])
def test_a_worker_that_is_killed_ends_the_others_and_all_go_on(at, unbroken, tiny_preset, tmp_path):
    chief, _ = together(2, "remembering", tmp_path, tiny_preset, sent=signal.SIGKILL, at=at)
    assert chief.status == 2
    assert "Worker 1 (127.0.0.1:" in chief.said and "was lost" in chief.said
    assert_ended_well(together(2, "remembering", tmp_path, tiny_preset, how="resume"))
    found = np.load(tmp_path / "result.npz")
    for name in unbroken:
        if name != "steps":
            np.testing.assert_array_equal(found[name], unbroken[name], err_msg=name)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_worker_that_is_to_end_ends_all_at_one_step_with_a_checkpoint(tiny_preset, tmp_path):
    workers = together(2, "plain", tmp_path, tiny_preset, sent=signal.SIGTERM, at=IN_HEAD)
    assert [each.status for each in workers] == [130, 143]
    for worker in workers:
        assert f"--resume={tmp_path / 'run'}" in worker.said
    assert_ended_well(together(2, "plain", tmp_path, tiny_preset, how="resume"))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("head  epoch 1/2") == log.count("head  epoch 2/2") == 1


@dataclasses.dataclass(frozen=True)
class Host:
    """A network namespace: what runs in it sees a network card of its own, and no other."""

    name: str
    address: str

    def unplug(self):
        """Cuts its cable: the other hears nothing of it any more, not even that it has gone."""
        ip("-n", self.name, "link", "set", "cable", "down")


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def two_hosts():
    """Two network namespaces with a cable between them, where the machine lets us make them."""
    hosts = [Host(f"sft{os.getpid()}_{n}", f"10.77.0.{n + 1}") for n in range(2)]
    try:
        for host in hosts:
            ip("netns", "add", host.name)
        near, far = (host.name for host in hosts)
        ends = ("cable", "netns", near, "type", "veth", "peer", "name", "cable", "netns", far)
        ip("link", "add", *ends)
        for host in hosts:
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "cable")
            for card in ("lo", "cable"):
                ip("-n", host.name, "link", "set", card, "up")
        yield hosts
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    finally:
        for host in hosts:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "del", host.name)


@pytest.mark.slow
@pytest.mark.nightly
def test_two_hosts_train_what_one_process_does(two_hosts, alone, tiny_preset, tmp_path):
    assert_ended_well(together(2, "plain", tmp_path, tiny_preset, hosts=two_hosts))
    assert_alike(np.load(tmp_path / "result.npz"), alone("plain"))


@pytest.mark.nightly
@pytest.mark.slow
def test_a_host_that_vanishes_without_a_word_ends_the_other(two_hosts, tiny_preset, tmp_path):
    started = begin(2, "endless", tmp_path, tiny_preset, hosts=two_hosts)
    log = tmp_path / "run" / "log.txt"
    deadline = time.monotonic() + 120
    while not (log.exists() and "epoch 2/" in log.read_text()):
        assert time.monotonic() < deadline and started[0].poll() is None
        time.sleep(0.2)
    two_hosts[1].unplug()
    began = time.monotonic()
    chief = ended(started[:1])[0]
    seconds = time.monotonic() - began
    started[1].kill()
    started[1].communicate()
    assert seconds < 60  # 12 were measured
    assert chief.status == 2
    assert "Worker 1 (10.77.0.2:2222)" in chief.said and "was lost" in chief.said
