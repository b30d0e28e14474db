"""Before several processes train together: are all there, and do they want the same?

The chief listens on its own address, to which the others come, each with what it is about to do.
It compares, and tells all the same. TensorFlow takes the address over afterwards. By itself it
would wait for those that do not come, and train with those that want something else.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sft_keras.core.errors import ClusterError
from sft_keras.core.reporter import SILENT, Reporter
from sft_keras.distributed.cluster import Cluster

_RETRIED_AFTER = 0.5  # seconds
_SAID_EVERY = 15.0  # seconds
_MOST_BYTES = 2**22
_SHOWN = 5
_PATIENCE = 5.0  # seconds for somebody who knocks to say who it is


def meet(
    cluster: Cluster,
    about: Mapping[str, Any],
    *,
    timeout: float,
    reporter: Reporter = SILENT,
) -> None:
    """Waits until all processes of a cluster are there and agree.

    Args:
      cluster: The processes.
      about: What must be the same for all; plain values.
      timeout: Seconds to wait for the others.
      reporter: Receives log lines.

    Raises:
      ClusterError: If one does not come, or wants something else; every process that came raises.
    """
    deadline = time.monotonic() + timeout
    if cluster.is_chief:
        _receive_all(cluster, about, deadline, timeout, reporter)
    else:
        _report(cluster, about, deadline, timeout)


def _receive_all(
    cluster: Cluster,
    about: Mapping[str, Any],
    deadline: float,
    timeout: float,
    reporter: Reporter,
) -> None:
    came: dict[int, tuple[socket.socket, Mapping[str, Any]]] = {}
    said = time.monotonic()
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(_listening(cluster))
        while len(came) < len(cluster.addresses) - 1 and time.monotonic() < deadline:
            if time.monotonic() - said > _SAID_EVERY:
                reporter.line(f"workers  waiting for {_missing(cluster, came)}")
                said = time.monotonic()
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody within a second
                continue
            index, own = _who(connection, deadline)
            if index not in range(1, len(cluster.addresses)):
                connection.close()  # anyone may knock
            elif index in came:
                fault = f"Each worker must have an index of its own. Received: {index} twice."
                _tell(connection, fault)
                connection.close()
            else:
                came[index] = (opened.enter_context(connection), own)
        fault = None
        if len(came) < len(cluster.addresses) - 1:
            fault = (
                f"All workers must be there within {timeout:.0f} s. These did not come: "
                f"{_missing(cluster, came)}. Are they running, with the same TF_CONFIG but for the "
                f"index, and can they reach {cluster.addresses[0]}? --worker_timeout=SECONDS waits "
                "longer."
            )
        else:
            fault = _differences(cluster, about, {index: own for index, (_, own) in came.items()})
        for connection, _ in came.values():
            _tell(connection, fault)
    if fault is not None:
        raise ClusterError(fault)


def _report(cluster: Cluster, about: Mapping[str, Any], deadline: float, timeout: float) -> None:
    host, _, port = cluster.addresses[0].rpartition(":")
    message = json.dumps({"worker": cluster.index, "about": about}).encode() + b"\n"
    reason = "nobody answered"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as connection:
                connection.sendall(message)
                # The chief waits for the others, as long as it would for this one, and a bit.
                connection.settimeout(timeout + 10.0)
                fault = _read(connection, time.monotonic() + timeout + 10.0)["fault"]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            time.sleep(_RETRIED_AFTER)
            continue
        if fault is not None:
            raise ClusterError(fault)
        return
    raise ClusterError(
        f"Every worker must reach the chief. Received: for {timeout:.0f} s no answer from "
        f"{cluster.name(0)} ({reason}). Is it running, and may this machine reach that port? "
        "--worker_timeout=SECONDS waits longer."
    )


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[socket.socket]:
    host, _, port = cluster.addresses[0].rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))  # not the host's name, which may be that of a router
        except OSError as error:
            raise ClusterError(
                f"The chief must be able to listen on its own address. Received: "
                f"{cluster.addresses[0]!r}, and the system says: {error.strerror or error}. Is "
                "an earlier run still going on there? Take another port in TF_CONFIG."
            ) from None
        listener.listen(len(cluster.addresses))
        listener.settimeout(1.0)
        yield listener


def _who(connection: socket.socket, deadline: float) -> tuple[int, dict[str, Any]]:
    """Returns a worker's index and what it is about to do; -1 for what is none."""
    try:
        connection.settimeout(_PATIENCE)
        message = _read(connection, min(deadline, time.monotonic() + _PATIENCE))
        return int(message["worker"]), dict(message["about"])
    except Exception:  # Whatever may have been sent must not end the run.
        return -1, {}


def _tell(connection: socket.socket, fault: str | None) -> None:
    with contextlib.suppress(OSError):  # It is gone; whoever trains with it will know.
        connection.sendall(json.dumps({"fault": fault}).encode() + b"\n")
        connection.recv(1)  # until it has read it, so that it is the one that closes first


def _read(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """Returns the object in the next line.

    Raises:
      OSError: If nothing comes.
      ValueError: If that is no such line, or it takes too long.
    """
    received = b""
    while not received.endswith(b"\n"):
        if time.monotonic() > deadline:
            raise ValueError("no whole message in time")
        part = connection.recv(2**16)
        if not part or len(received) > _MOST_BYTES:
            raise ValueError("no whole message")
        received += part
    found = json.loads(received)
    if not isinstance(found, dict):
        raise ValueError("no message")
    return found


def _missing(cluster: Cluster, came: Mapping[int, Any]) -> str:
    rest = [index for index in range(1, len(cluster.addresses)) if index not in came]
    return ", ".join(map(cluster.name, rest))


def _differences(
    cluster: Cluster, about: Mapping[str, Any], others: Mapping[int, Mapping[str, Any]]
) -> str | None:
    """Returns in what workers differ from the chief, as a message; None if in nothing."""
    wanted, found = _flat(json.loads(json.dumps(about))), []
    for index, other in sorted(others.items()):
        given = _flat(other)
        for path in sorted(wanted.keys() | given.keys()):
            if wanted.get(path) != given.get(path):
                found.append(
                    f"{path} is {given.get(path)!r} for {cluster.name(index)}, and "
                    f"{wanted.get(path)!r} for the chief"
                )
    if not found:
        return None
    rest = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        "All workers must run the same recipe with the same versions. Received: "
        f"{'; '.join(found[:_SHOWN])}{rest}. Start all of them with one command in one environment."
    )


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        pairs = value.items()
    elif isinstance(value, list) and value:
        pairs = enumerate(value)
    else:
        return {path: value}
    return {
        k: v for name, each in pairs for k, v in _flat(each, f"{path}.{name}".strip(".")).items()
    }
