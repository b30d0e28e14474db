"""Rendezvous: wait for all workers and verify that recipes and versions match.

The chief listens on its own address. Every other worker connects and sends what it is about to run.
The chief compares all of it with its own and replies with the same result to everyone; TensorFlow
takes the address over afterwards:

    worker -> {"worker": index, "about": facts} -> chief
    worker <- {"fault": message or null}        <- chief

TensorFlow on its own would wait for a missing worker without naming it, and would train together
with a worker that runs another recipe. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sft_keras.core.errors import ClusterError
from sft_keras.core.flatten import flatten, indexed_items
from sft_keras.core.reporter import SILENT, Reporter
from sft_keras.distributed.cluster import Cluster

_RETRY_SECONDS = 0.5
_REPORT_SECONDS = 15.0
_MAX_BYTES = 2**22
_MAX_DIFFERENCES = 5
_IDENTIFY_SECONDS = 5.0  # for a new connection to send its message


def rendezvous(
    cluster: Cluster,
    facts: Mapping[str, Any],
    *,
    timeout: float,
    reporter: Reporter = SILENT,
) -> None:
    """Wait until all processes of a cluster have arrived and agree.

    Args:
      cluster: The processes.
      facts: Plain values that must be the same in all processes.
      timeout: Seconds to wait for the others.
      reporter: Receives log lines.

    Raises:
      ClusterError: If a worker is missing or its facts differ. Every worker that arrived raises it.
    """
    deadline = time.monotonic() + timeout
    if cluster.is_chief:
        _receive_all(cluster, facts, deadline, timeout, reporter)
    else:
        _report(cluster, facts, deadline, timeout)


def _receive_all(
    cluster: Cluster,
    facts: Mapping[str, Any],
    deadline: float,
    timeout: float,
    reporter: Reporter,
) -> None:
    arrived: dict[int, tuple[socket.socket, Mapping[str, Any]]] = {}
    last_report = time.monotonic()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(cluster))
        while len(arrived) < len(cluster.addresses) - 1 and time.monotonic() < deadline:
            if time.monotonic() - last_report > _REPORT_SECONDS:
                reporter.line(f"workers  waiting for {_missing(cluster, arrived)}")
                last_report = time.monotonic()
            try:
                connection, _ = listener.accept()
            except OSError:  # no connection within a second
                continue
            index, worker_facts = _identify(connection, deadline)
            if index not in range(1, len(cluster.addresses)):
                connection.close()  # no worker: the port is open to anyone
            elif index in arrived:
                fault = f"Each worker must have its own index. Received: {index} twice."
                _reply(connection, fault)
                connection.close()
            else:
                arrived[index] = (stack.enter_context(connection), worker_facts)
        if len(arrived) < len(cluster.addresses) - 1:
            result: str | None = (
                f"All workers must arrive within {timeout:.0f} s. Missing: "
                f"{_missing(cluster, arrived)}. Check that they are running, with the same "
                f"TF_CONFIG except for the index, and that they can reach {cluster.addresses[0]}. "
                "--worker_timeout=SECONDS waits longer."
            )
        else:
            others = {index: other for index, (_, other) in arrived.items()}
            result = _differences(cluster, facts, others)
        for connection, _ in arrived.values():
            _reply(connection, result)
    if result is not None:
        raise ClusterError(result)


def _report(cluster: Cluster, facts: Mapping[str, Any], deadline: float, timeout: float) -> None:
    host, _, port = cluster.addresses[0].rpartition(":")
    message = json.dumps({"worker": cluster.index, "about": facts}).encode() + b"\n"
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as connection:
                connection.sendall(message)
                # The chief replies once all workers have arrived, or its own timeout has passed.
                connection.settimeout(timeout + 10.0)
                fault = _read(connection, time.monotonic() + timeout + 10.0)["fault"]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            time.sleep(_RETRY_SECONDS)
            continue
        if fault is not None:
            raise ClusterError(fault)
        return
    raise ClusterError(
        f"Every worker must be able to reach the chief. Received: no answer for {timeout:.0f} s "
        f"from {cluster.name(0)} ({reason}). Check that it is running and that no firewall blocks "
        "that port. --worker_timeout=SECONDS waits longer."
    )


@contextlib.contextmanager
def _listen(cluster: Cluster) -> Iterator[socket.socket]:
    host, _, port = cluster.addresses[0].rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))  # not the host name, which may resolve to a router
        except OSError as error:
            raise ClusterError(
                "The chief must be able to listen on its own address. Received: "
                f"{cluster.addresses[0]!r}: {error.strerror or error}. If an earlier run is still "
                "using the port, stop it or set another port in TF_CONFIG."
            ) from None
        listener.listen(len(cluster.addresses))
        listener.settimeout(1.0)
        yield listener


def _identify(connection: socket.socket, deadline: float) -> tuple[int, dict[str, Any]]:
    """Return the index and facts of the worker behind a connection; index -1 if it is none."""
    try:
        connection.settimeout(_IDENTIFY_SECONDS)
        message = _read(connection, min(deadline, time.monotonic() + _IDENTIFY_SECONDS))
        return int(message["worker"]), dict(message["about"])
    except Exception:  # Nothing that a stranger sends may end the run.
        return -1, {}


def _reply(connection: socket.socket, fault: str | None) -> None:
    with contextlib.suppress(OSError):  # A worker that is lost now fails in the first collective.
        connection.sendall(json.dumps({"fault": fault}).encode() + b"\n")
        # Wait until the worker closes first: the side that closes first holds the port for a while,
        # and TensorFlow needs the chief's.
        connection.recv(1)


def _read(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """Return the JSON object in the next line.

    Raises:
      OSError: If nothing arrives.
      ValueError: If the line is no such object, too long, or not complete by the deadline.
    """
    received = b""
    while not received.endswith(b"\n"):
        if time.monotonic() > deadline:
            raise ValueError("no complete message in time")
        chunk = connection.recv(2**16)
        if not chunk or len(received) > _MAX_BYTES:
            raise ValueError("no complete message")
        received += chunk
    message = json.loads(received)
    if not isinstance(message, dict):
        raise ValueError("no JSON object")
    return message


def _missing(cluster: Cluster, arrived: Mapping[int, Any]) -> str:
    indices = [index for index in range(1, len(cluster.addresses)) if index not in arrived]
    return ", ".join(map(cluster.name, indices))


def _differences(
    cluster: Cluster, facts: Mapping[str, Any], others: Mapping[int, Mapping[str, Any]]
) -> str | None:
    """Return a message that lists where workers differ from the chief; None if they agree."""
    expected = dict(flatten(json.loads(json.dumps(facts)), indexed_items))
    differences = []
    for index, other in sorted(others.items()):
        received = dict(flatten(other, indexed_items))
        for path in sorted(expected.keys() | received.keys()):
            if expected.get(path) != received.get(path):
                differences.append(
                    f"{path} is {received.get(path)!r} for {cluster.name(index)}, and "
                    f"{expected.get(path)!r} for the chief"
                )
    if not differences:
        return None
    shown = "; ".join(differences[:_MAX_DIFFERENCES])
    rest = len(differences) - _MAX_DIFFERENCES
    more = f"; and {rest} more" if rest > 0 else ""
    return (
        f"All workers must run the same recipe with the same versions. Received: {shown}{more}. "
        "Start all of them with the same command in the same environment."
    )
