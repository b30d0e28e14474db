"""Binds an address and runs a web server on it until Ctrl-C. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from sft_keras.core.errors import ServingError


def require_installed(packages: Sequence[str], extra: str, subject: str) -> None:
    """Check that packages can be imported, without importing them.

    Args:
      packages: The names of the packages as imported.
      extra: The extra of this package that installs them.
      subject: What needs them, for the error message, e.g. "The server".

    Raises:
      ServingError: A package is missing.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ServingError(
            f"{subject} needs {' and '.join(missing)}: pip install 'sft_keras[{extra}]'"
        )


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address, but does not listen yet.

    Raises:
      ServingError: The address is in use, or does not belong to this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        if os.name != "nt":  # where it would allow a port that is in use
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ServingError(
            f"--host and --port must be a free address of this machine. Received: {host} and "
            f"{port}: {error.strerror}. Try --port=0 for any free port."
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve_until_stopped(app: Any, bound: socket.socket, line: str, grace: int) -> None:
    """Serve an ASGI application until Ctrl-C or SIGTERM.

    Args:
      app: The application.
      bound: A socket from `bound_socket`.
      line: The line to print once the server listens.
      grace: The time in seconds within which open requests may finish.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Prints `line` when it listens."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(line, flush=True)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace,
    )
    # SIGTERM raises KeyboardInterrupt too, so that the caller's resources are released.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn re-raises it after the open requests
        Server(config).run(sockets=[bound])
    print("stopped", flush=True)
