"""The cluster: the processes that train one model together, as TF_CONFIG or SLURM describes them.

A launcher starts every process with the same command and describes the cluster in environment
variables. `resolve_cluster` reads them. Kubernetes, Vertex AI and most others set TF_CONFIG; `srun`
sets SLURM_*. Standard library only, so that a mistake is reported without importing TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from sft_keras.core.errors import ClusterError, RunFolderError

Strategy = Literal["auto", "one", "mirrored", "multi_worker", "tpu"]
WORKER_TIMEOUT = 300.0
"""Default number of seconds to wait for other workers."""

TF_CONFIG_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_TRAINING_JOBS = ("chief", "worker")  # in the order in which their processes are numbered

_FIRST_PORT, _NUM_PORTS = 10_000, 20_000
_PORTS_PER_JOB = 16
# One item of a SLURM host list: a host, or several as prefix[numbers]suffix.
_NUMBERS = r"\[(?P<numbers>\d+(-\d+)?(,\d+(-\d+)?)*)\]"
_HOSTS = re.compile(rf"(?P<prefix>[^\[\],]+)({_NUMBERS}(?P<suffix>[^\[\],]*))?(,|$)")
_TASKS = re.compile(r"(?P<tasks>\d+)(\(x(?P<nodes>\d+)\))?")
_SLURM_VARIABLES = (
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURMD_NODENAME",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_JOB_ID",
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes that train one model together.

    Attributes:
      addresses: HOST:PORT of every process. The first is the chief, which writes the run folder.
      index: The index of this process in `addresses`.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief."""
        return self.index == 0

    def name(self, index: int) -> str:
        """Return the name of a worker in messages, e.g. "worker 1 (10.0.0.2:2222)"."""
        chief = ", the chief" if index == 0 else ""
        return f"worker {index} ({self.addresses[index]}{chief})"


def resolve_cluster(strategy: Strategy, run_dir: str | os.PathLike[str] | None) -> Cluster | None:
    """Return the cluster that this process belongs to, from TF_CONFIG or else SLURM's variables.

    Args:
      strategy: The requested strategy. Only "auto" and "multi_worker" use several processes.
      run_dir: The requested run folder, which several workers must share.

    Returns:
      The cluster, or None for a single process.

    Raises:
      ClusterError: If the variables are malformed, or missing for "multi_worker".
      RunFolderError: If there are several workers and no run folder.
    """
    if strategy in ("one", "mirrored", "tpu"):
        return None
    cluster = cluster_from_tf_config(os.environ) or cluster_from_slurm(os.environ)
    if cluster is None and strategy == "multi_worker":
        raise ClusterError(
            "--strategy=multi_worker needs a description of the processes that train together. "
            "Received: no TF_CONFIG in the environment that lists several, and no SLURM step with "
            f"several tasks. Set TF_CONFIG for each process, e.g. {TF_CONFIG_EXAMPLE}."
        )
    if cluster is not None and run_dir is None:
        raise RunFolderError(
            "Several workers need a run folder, --run_dir=FOLDER: the same for all, on a disk that "
            f"all can read. Received: none, with {len(cluster.addresses)} workers. "
            "(--strategy=one trains in this process only.)"
        )
    return cluster


# TF_CONFIG


def cluster_from_tf_config(environment: Mapping[str, str]) -> Cluster | None:
    """Return the cluster in TF_CONFIG.

    Args:
      environment: The environment variables.

    Returns:
      The chief, if listed, and the workers; evaluators are ignored. None if TF_CONFIG is not set
      or lists only one process.

    Raises:
      ClusterError: If TF_CONFIG is malformed.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _malformed(f"no JSON ({error})", text) from None
    if not isinstance(config, dict):
        raise _malformed("JSON that is no object", text)
    if not config.get("cluster"):
        return None
    jobs = config["cluster"]
    if not _is_jobs(jobs):
        raise _malformed("a `cluster` that is not a list of HOST:PORT per task type", text)
    others = sorted(set(jobs) - {*_TRAINING_JOBS, "evaluator"})
    if others:
        raise _malformed(f"tasks of the type {others[0]!r}, which do not train here", text)
    addresses = tuple(address for job in _TRAINING_JOBS for address in jobs.get(job, ()))
    if len(jobs.get("chief", ())) > 1:
        raise _malformed("more than one chief", text)
    if len(set(addresses)) < len(addresses):
        raise _malformed("an address twice", text)
    index = _task_index(config.get("task"), jobs, text)
    return Cluster(addresses, index) if len(addresses) > 1 else None


def _task_index(task: Any, jobs: Mapping[str, list[str]], text: str) -> int:
    """Return the index of TF_CONFIG's `task` among the training processes."""
    if not isinstance(task, dict) or task.get("type") not in jobs:
        raise _malformed("no `task` that identifies this process in the cluster", text)
    if task["type"] not in _TRAINING_JOBS:
        raise _malformed(f"a task of the type {task['type']!r}, which does not train", text)
    index = task.get("index", 0)
    if not isinstance(index, int) or not 0 <= index < len(jobs[task["type"]]):
        raise _malformed(f"the index {index!r}, which is not in the cluster", text)
    return index + (len(jobs.get("chief", ())) if task["type"] == "worker" else 0)


def _is_jobs(jobs: Any) -> bool:
    return isinstance(jobs, dict) and all(
        isinstance(addresses, list) and all(map(_is_address, addresses))
        for addresses in jobs.values()
    )


def _is_address(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    host, _, port = value.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 2**16


def _malformed(received: str, text: str) -> ClusterError:
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return ClusterError(
        f"TF_CONFIG must list the processes that train together, as in {TF_CONFIG_EXAMPLE}. "
        f"Received: {received}: {shown!r}. Fix it, or train on one device with --strategy=one."
    )


# SLURM


def cluster_from_slurm(environment: Mapping[str, str]) -> Cluster | None:
    """Return the tasks of a SLURM step as a cluster, numbered as SLURM numbers them.

    Ports are derived from the job's id, so that jobs that share a node do not collide.

    Args:
      environment: The environment variables that `srun` sets for a task.

    Returns:
      The cluster, or None outside of a step or in a step with one task.

    Raises:
      ClusterError: If variables are missing or malformed, or tasks of a node are not consecutive.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) < 2 or "SLURM_PROCID" not in environment:
        return None
    missing = [name for name in _SLURM_VARIABLES if name not in environment]
    if missing:
        raise ClusterError(
            "A SLURM step with several tasks must describe them in its variables. Received: no "
            f"{', '.join(missing)}. Set TF_CONFIG, or train on one device with --strategy=one."
        )
    hosts = list(_expand_hosts(environment["SLURM_STEP_NODELIST"]))
    counts = list(_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"]))
    first_port = _FIRST_PORT + int(environment["SLURM_JOB_ID"]) * _PORTS_PER_JOB % _NUM_PORTS
    tasks = [(host, local) for host, count in zip(hosts, counts) for local in range(count)]
    index = int(environment["SLURM_PROCID"])
    host, local = environment["SLURMD_NODENAME"], int(environment["SLURM_LOCALID"])
    if len(hosts) != len(counts) or not index < len(tasks) or tasks[index] != (host, local):
        raise ClusterError(
            "SLURM must number the tasks of a node consecutively. Received: task "
            f"{index} is local task {local} of {host}, in a step on "
            f"{environment['SLURM_STEP_NODELIST']} with "
            f"{environment['SLURM_STEP_TASKS_PER_NODE']} tasks per node. Start it with srun "
            "--distribution=block."
        )
    return Cluster(tuple(f"{host}:{first_port + local}" for host, local in tasks), index)


def _expand_hosts(node_list: str) -> Iterator[str]:
    """Yield the hosts of a SLURM host list such as "n[08-10,12],m5"."""
    end = 0
    while end < len(node_list):
        match = _HOSTS.match(node_list, end)
        if match is None:
            raise ClusterError(
                f"SLURM_STEP_NODELIST must be a list of hosts such as n[08-10,12]. Received: "
                f"{node_list!r}. Set TF_CONFIG, or train on one device with --strategy=one."
            )
        end = match.end()
        if match["numbers"] is None:
            yield match["prefix"]
            continue
        for part in match["numbers"].split(","):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                yield f"{match['prefix']}{number:0{len(first)}}{match['suffix']}"


def _tasks_per_node(counts: str) -> Iterator[int]:
    """Yield the number of tasks of every node, from a list such as "2(x3),1"."""
    for match in _TASKS.finditer(counts):
        yield from [int(match["tasks"])] * int(match["nodes"] or 1)
