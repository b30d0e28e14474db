"""What launchers say of who trains together, and the meeting before they do."""

import json
import socket
import threading
import time

import pytest

from sft_keras.core.errors import ClusterError, RunFolderError
from sft_keras.distributed.cluster import (
    Cluster,
    cluster_from_slurm,
    cluster_from_tf_config,
    resolve_cluster,
)
from sft_keras.distributed.rendezvous import rendezvous


def config(cluster, **task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


# TF_CONFIG


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TF_CONFIG": ""}, None),
        ({"TF_CONFIG": "{}"}, None),
        # Kubernetes' TFJob with workers alone
        (config({"worker": ["a:1", "b:1"]}, type="worker", index=1), Cluster(("a:1", "b:1"), 1)),
        # Vertex AI: a chief, an index as a number, an evaluator that does not train
        (
            config(
                {"worker": ["b:1", "c:1"], "chief": ["a:1"], "evaluator": ["d:1"]},
                type="worker",
                index=1,
            ),
            Cluster(("a:1", "b:1", "c:1"), 2),
        ),
        (config({"chief": ["a:1"], "worker": ["b:1"]}, type="chief"), Cluster(("a:1", "b:1"), 0)),
        # one process is no cluster
        (config({"worker": ["a:1"]}, type="worker", index=0), None),
    ],
)
def test_tf_config_says_who_trains_together(environment, expected):
    assert cluster_from_tf_config(environment) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{'cluster': 1}", "no JSON"),
        ("[1]", "no object"),
        (json.dumps({"cluster": {"worker": "a:1"}}), "HOST:PORT"),
        (json.dumps({"cluster": {"worker": ["a", "b:1"]}}), "HOST:PORT"),
        (json.dumps({"cluster": {"worker": ["a:1", "a:1"]}}), "an address twice"),
        (json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}), "no `task`"),
        (config({"worker": ["a:1", "b:1"]}, type="worker", index=2)["TF_CONFIG"], "the index 2"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}, type="ps", index=0)["TF_CONFIG"], "'ps'"),
    ],
)
def test_a_malformed_tf_config_is_said_with_an_example(text, said):
    with pytest.raises(ClusterError) as raised:
        cluster_from_tf_config({"TF_CONFIG": text})
    message = str(raised.value)
    assert said in message and '"worker": ["10.0.0.1:2222"' in message and "Received" in message


def test_strategies_that_lack_something_are_refused(monkeypatch):
    for name in [*slurm_step(0), "TF_CONFIG"]:
        monkeypatch.delenv(name, raising=False)
    assert resolve_cluster("auto", None) is None
    assert resolve_cluster("tpu", "runs/a") is None
    with pytest.raises(ClusterError, match="no TF_CONFIG"):
        resolve_cluster("multi_worker", "runs/a")
    given = config({"worker": ["a:1", "b:1"]}, type="worker", index=0)
    monkeypatch.setenv("TF_CONFIG", given["TF_CONFIG"])
    assert resolve_cluster("one", None) is None
    with pytest.raises(RunFolderError, match="--run_dir=FOLDER"):
        resolve_cluster("auto", None)
    assert resolve_cluster("auto", "runs/a").addresses == ("a:1", "b:1")


# SLURM


def slurm_step(task, nodes="n[8-10],m5", tasks="2,1(x3)", node="n8", local=None):
    """The variables of a task, as srun sets them; of a step on n8 (twice), n9, n10 and m5."""
    return {
        "SLURM_JOB_ID": "41",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_PROCID": str(task),
        "SLURM_LOCALID": str(task if local is None else local),
        "SLURMD_NODENAME": node,
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
    }


@pytest.mark.parametrize(
    ("environment", "index"),
    [(slurm_step(0), 0), (slurm_step(1), 1), (slurm_step(3, node="n10", local=0), 3)],
)
def test_slurm_says_who_trains_together(environment, index):
    cluster = cluster_from_slurm(environment)
    ports = (10_656, 10_657, 10_656, 10_656, 10_656)
    hosts = ("n8", "n8", "n9", "n10", "m5")  # in the order of its list, not of the alphabet
    assert cluster == Cluster(tuple(f"{h}:{port}" for h, port in zip(hosts, ports)), index)


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("a1", ["a1"]),
        ("gpu[008-010]-x,b", ["gpu008-x", "gpu009-x", "gpu010-x", "b"]),
        ("n[1,3-4]", ["n1", "n3", "n4"]),
    ],
)
def test_slurm_lists_of_hosts_are_read(given, hosts):
    step = slurm_step(0, given, f"2(x{len(hosts)})", hosts[0])
    assert [each.split(":")[0] for each in cluster_from_slurm(step).addresses[::2]] == hosts


def test_a_task_of_slurm_alone_is_no_cluster():
    assert cluster_from_slurm({}) is None
    assert cluster_from_slurm({**slurm_step(0), "SLURM_STEP_NUM_TASKS": "1"}) is None
    # a batch script's own environment, in which nothing was started by srun
    assert cluster_from_slurm({"SLURM_JOB_ID": "41", "SLURM_STEP_NUM_TASKS": "5"}) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (slurm_step(1, node="n9", local=0), "--distribution=block"),  # dealt out in turns
        (slurm_step(0, nodes="n[8-"), "list of hosts"),
        (slurm_step(0, nodes="n[8-x]"), "list of hosts"),
        ({k: v for k, v in slurm_step(0).items() if k != "SLURM_LOCALID"}, "SLURM_LOCALID"),
    ],
)
def test_what_slurm_does_not_say_clearly_is_refused(environment, said):
    with pytest.raises(ClusterError, match=said):
        cluster_from_slurm(environment)


# The meeting

NONSENSE = (b"[" * 100_000 + b"\n", b'{"worker": Infinity}\n', b'{"worker": 7, "about": {}}\n')


def addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


def meeting(own, there=None, timeout=20.0, disturb=None):
    """Has workers meet, each with what it is about to do; returns what each was told."""
    places, told = addresses(len(own)), {}

    def come(index):
        try:
            rendezvous(Cluster(places, index), own[index], timeout=timeout)
            told[index] = None
        except ClusterError as error:
            told[index] = str(error)

    indices = range(len(own)) if there is None else there
    threads = [threading.Thread(target=come, args=(index,)) for index in indices]
    for thread in threads:
        thread.start()
    if disturb is not None:
        disturb(places[0])
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return told, places


def test_workers_that_want_the_same_meet():
    same = {"recipe": {"stages": [{"rate": 1e-3}]}, "resume": False}
    told, _ = meeting([same, same, same])
    assert told == {0: None, 1: None, 2: None}


def test_a_difference_is_told_to_all_with_its_field():
    one = {"recipe": {"stages": [{"rate": 1e-3}]}, "versions": {"keras": "3.15"}}
    other = {"recipe": {"stages": [{"rate": 1e-4}]}, "versions": {"keras": "3.14"}}
    told, places = meeting([one, one, other])
    assert told[0] == told[1] == told[2]
    for said in ("recipe.stages.0.rate is 0.0001", "versions.keras is '3.14'", f"2 ({places[2]})"):
        assert said in told[0]
    assert f"1 ({places[1]})" not in told[0]


def test_who_does_not_come_is_named_to_all_that_came():
    told, places = meeting([{}, {}, {}], there=[0, 1], timeout=2.0)
    assert told[0] == told[1]
    assert f"worker 2 ({places[2]})" in told[0] and "within 2 s" in told[0]


def test_a_chief_that_cannot_be_reached_is_named():
    told, places = meeting([{}, {}], there=[1], timeout=1.0)
    assert f"worker 0 ({places[0]}, the chief)" in told[1] and "for 1 s" in told[1]


@pytest.mark.slow
def test_what_knocks_without_sense_is_let_go():
    def knock(address):
        host, port = address.split(":")
        for message in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"worker": "x"}\n', b"", *NONSENSE):
            for _ in range(40):
                try:
                    with socket.create_connection((host, int(port)), timeout=1) as connection:
                        connection.sendall(message)
                    break
                except OSError:
                    time.sleep(0.05)

    told, _ = meeting([{}, {}], disturb=knock)
    assert told == {0: None, 1: None}


def test_two_of_one_index_are_told_and_the_first_goes_on():
    places, told = addresses(2), []

    def come(index):
        try:
            rendezvous(Cluster(places, index), {}, timeout=5.0)
            told.append("met")
        except ClusterError as error:
            told.append(str(error))

    same = [threading.Thread(target=come, args=(1,)) for _ in range(2)]
    places = (*places, "127.0.0.1:1")  # a third, who does not come
    chief = threading.Thread(target=come, args=(0,))
    for thread in (chief, *same):
        thread.start()
    for thread in (chief, *same):
        thread.join(30)
    assert sum("Received: 1 twice" in each for each in told) == 1
    assert sum("worker 2 (127.0.0.1:1)" in each for each in told) == 2


def test_an_address_that_is_taken_is_said():
    with socket.create_server(("", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClusterError, match="able to listen"):
            rendezvous(Cluster((place, "127.0.0.1:1"), 0), {}, timeout=1.0)
