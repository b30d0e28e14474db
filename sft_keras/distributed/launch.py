"""Which processes a run trains with, as whatever started this one says. Standard library only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sft_keras.core.errors import ClusterError, RunFolderError
from sft_keras.distributed.cluster import Cluster, Strategy


def cluster_for(strategy: Strategy, run_dir: str | os.PathLike[str] | None) -> Cluster | None:
    """Returns the processes that a strategy asks for; None for this one alone.

    Raises:
      ClusterError: If TF_CONFIG or SLURM's variables cannot be understood, or are lacking.
      RunFolderError: If several processes are not told where the run is.
    """
    if strategy in ("one", "mirrored", "tpu"):
        return None
    cluster = cluster_from_tf_config(os.environ) or cluster_from_slurm(os.environ)
    if cluster is None and strategy == "multi_worker":
        raise ClusterError(
            "--strategy=multi_worker needs to know which processes train together. Received: no "
            "TF_CONFIG in the environment that names several, and no step of SLURM with several "
            f"tasks. Set it for each, e.g. {TF_CONFIG_EXAMPLE}."
        )
    if cluster is not None and run_dir is None:
        raise RunFolderError(
            "Several workers must be told where the run is, with --run_dir=FOLDER: the same for "
            f"all, on a disk that all can read. Received: none, and {len(cluster.addresses)} "
            "workers. (--strategy=one trains alone.)"
        )
    return cluster


_FIRST_PORT, _PORTS = 10_000, 20_000


_IN_A_JOB = 16  # ports from one job's to those of the next


# A host, or several in one: prefix[numbers]suffix.
_NUMBERS = r"\[(?P<numbers>\d+(-\d+)?(,\d+(-\d+)?)*)\]"


_HOSTS = re.compile(rf"(?P<prefix>[^\[\],]+)({_NUMBERS}(?P<suffix>[^\[\],]*))?(,|$)")


_TASKS = re.compile(r"(?P<tasks>\d+)(\(x(?P<nodes>\d+)\))?")


_NEEDED = (
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURMD_NODENAME",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_JOB_ID",
)


def cluster_from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    """Returns the tasks of a SLURM step; None outside of one, or where it has one task alone.

    Raises:
      ClusterError: If they cannot be told from what SLURM says.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) < 2 or "SLURM_PROCID" not in environment:
        return None
    lacking = [name for name in _NEEDED if name not in environment]
    if lacking:
        raise ClusterError(
            "SLURM must say who trains together. Received: a step of several tasks without "
            f"{', '.join(lacking)}. Set TF_CONFIG, or train on one device with --strategy=one."
        )
    hosts = list(_hosts(environment["SLURM_STEP_NODELIST"]))
    tasks = list(_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"]))
    # Jobs that share a node must not take each other's ports.
    first = _FIRST_PORT + int(environment["SLURM_JOB_ID"]) * _IN_A_JOB % _PORTS
    places = [(host, local) for host, count in zip(hosts, tasks) for local in range(count)]
    index = int(environment["SLURM_PROCID"])
    own = (environment["SLURMD_NODENAME"], int(environment["SLURM_LOCALID"]))
    if len(hosts) != len(tasks) or not index < len(places) or places[index] != own:
        raise ClusterError(
            "SLURM must give a node tasks that follow one another. Received: as task "
            f"{index} number {own[1]} of {own[0]}, in a step on "
            f"{environment['SLURM_STEP_NODELIST']} with "
            f"{environment['SLURM_STEP_TASKS_PER_NODE']} tasks a node. Start it with srun "
            "--distribution=block."
        )
    return Cluster(tuple(f"{host}:{first + local}" for host, local in places), index)


def _hosts(given: str) -> Iterator[str]:
    """Yields the hosts of a list such as "n[08-10,12],m5"."""
    end = 0
    while end < len(given):
        found = _HOSTS.match(given, end)
        if found is None:
            raise ClusterError(
                f"SLURM_STEP_NODELIST must be a list of hosts such as n[08-10,12]. Received: "
                f"{given!r}. Set TF_CONFIG, or train on one device with --strategy=one."
            )
        end = found.end()
        if found["numbers"] is None:
            yield found["prefix"]
            continue
        for part in found["numbers"].split(","):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                yield f"{found['prefix']}{number:0{len(first)}}{found['suffix']}"


def _tasks_per_node(given: str) -> Iterator[int]:
    """Yields how many tasks each node has, from a list such as "2(x3),1"."""
    for found in _TASKS.finditer(given):
        yield from [int(found["tasks"])] * int(found["nodes"] or 1)


TF_CONFIG_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


_TRAINING = ("chief", "worker")  # in the order in which their processes are numbered


def cluster_from_tf_config(environment: Mapping[str, str]) -> Cluster | None:
    """Returns what TF_CONFIG says; None where there is none, or it names one process alone.

    Raises:
      ClusterError: If it cannot be understood.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        given = json.loads(text)
    except ValueError as error:
        raise _malformed(f"what is no JSON ({error})", text) from None
    if not isinstance(given, dict):
        raise _malformed("JSON that is no object", text)
    if not given.get("cluster"):
        return None
    jobs = given["cluster"]
    if not _is_jobs(jobs):
        raise _malformed("a `cluster` that does not list HOST:PORT by kind of task", text)
    others = sorted(set(jobs) - {*_TRAINING, "evaluator"})
    if others:
        raise _malformed(f"tasks of the kind {others[0]!r}, which do not train here", text)
    addresses = tuple(address for job in _TRAINING for address in jobs.get(job, ()))
    if len(jobs.get("chief", ())) > 1:
        raise _malformed("more than one chief", text)
    if len(set(addresses)) < len(addresses):
        raise _malformed("an address twice", text)
    task = given.get("task")
    if not isinstance(task, dict) or task.get("type") not in jobs:
        raise _malformed("no `task` that says which of the cluster's this process is", text)
    if task["type"] not in _TRAINING:
        raise _malformed(f"a task of the kind {task['type']!r}, which does not train", text)
    index = task.get("index", 0)
    if not isinstance(index, int) or not 0 <= index < len(jobs[task["type"]]):
        raise _malformed(f"the index {index!r}, which is none of the cluster's", text)
    if task["type"] == "worker":
        index += len(jobs.get("chief", ()))
    return Cluster(addresses, index) if len(addresses) > 1 else None


def _is_jobs(jobs: Any) -> bool:
    return isinstance(jobs, dict) and all(
        isinstance(each, list) and all(map(_is_address, each)) for each in jobs.values()
    )


def _is_address(given: Any) -> bool:
    if not isinstance(given, str):
        return False
    host, _, port = given.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 2**16


def _malformed(received: str, text: str) -> ClusterError:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return ClusterError(
        f"TF_CONFIG must say who trains together, as {TF_CONFIG_EXAMPLE} does. Received: "
        f"{received}: {shown!r}. Mend it, or train on one device with --strategy=one."
    )
