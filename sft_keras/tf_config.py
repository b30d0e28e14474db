"""Which processes train together, as TF_CONFIG says. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sft_keras.cluster import Cluster
from sft_keras.errors import ClusterError

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
