"""Which processes train together, as SLURM says in a step's environment. Standard library only.

Not by TensorFlow's own resolver: it puts hosts in the order of the alphabet (n10 before n9) where
SLURM's is that of its list, and fails without GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sft_keras.cluster import Cluster
from sft_keras.errors import ClusterError

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
