"""An address to listen on, and a web server there until Ctrl-C. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import socket
from collections.abc import Sequence
from typing import Any

from sft_keras.core.errors import ServingError


def require_installed(packages: Sequence[str], extra: str, who: str) -> None:
    """Checks that packages can be imported, without importing them.

    Args:
      packages: By the names they are imported by.
      extra: Which extra of this package brings them.
      who: Who needs them, as the error says it.

    Raises:
      ServingError: If one is missing.
    """
    missing = [each for each in packages if importlib.util.find_spec(each) is None]
    if missing:
        raise ServingError(f"{who} needs {' and '.join(missing)}: pip install 'sft_keras[{extra}]'")


def bound_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that has the address; nobody is heard before it listens.

    Raises:
      ServingError: If the address is not of this machine, or taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ServingError(
            f"--host and --port must be a free address of this machine. Received: {host} and "
            f"{port}: {error.strerror}. Try --port=0 for any free port."
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Returns the address of a socket as browsers want it."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve_until_stopped(app: Any, bound: socket.socket, line: str, grace: float) -> None:
    """Serves an ASGI application until Ctrl-C or SIGTERM.

    Args:
      app: The application.
      bound: As `bound_socket` returns it.
      line: What to print once it listens.
      grace: Seconds that requests which were begun have to end.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Says when it listens."""

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
    # So that what the caller opened is closed after either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn passes it on, once all is answered
        Server(config).run(sockets=[bound])
    print("stopped", flush=True)
