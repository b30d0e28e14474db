"""Run a process of a tf.data service, which reads and decodes images for runs elsewhere.

    python -m sft_keras.data_service --dispatcher --port=5000                        # one
    python -m sft_keras.data_service --worker --dispatcher_address=10.0.0.1:5000     # many
    python -m sft_keras.run --recipe=... --data_service=grpc://10.0.0.1:5000

Each process runs until Ctrl-C. There is no authentication and no encryption, so keep them within
your network. docs/scale.md has the details.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import DataServiceError, RecipeError
from sft_keras.data.service.dispatcher import parse_address, require_dispatcher

_DISPATCHER = flags.DEFINE_bool(
    "dispatcher", False, "Run the dispatcher, which assigns work to the workers."
)
_WORKER = flags.DEFINE_bool("worker", False, "Run a worker, which reads and decodes.")
_PORT = flags.DEFINE_integer(
    "port",
    None,
    "Port to listen on; default: 5000 for the dispatcher, any free port for a worker.",
    lower_bound=0,
    upper_bound=65535,
)
_ADDRESS = flags.DEFINE_string(
    "dispatcher_address", None, "HOST:PORT of the dispatcher; required for a worker."
)
_HOST = flags.DEFINE_string(
    "host",
    None,
    "Host name of a worker's machine for others; default: its address as the dispatcher sees it.",
)

_DEFAULT_PORT = 5000
_DISPATCHER_TIMEOUT = 60.0  # seconds
_HEARTBEAT_INTERVAL = 5_000  # milliseconds
_LOST_AFTER = 60_000  # milliseconds


def main(argv: Sequence[str]) -> None:
    """Run a dispatcher or a worker until stopped."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _DISPATCHER.value == _WORKER.value:
        raise RecipeError(
            "Pass either --dispatcher, or --worker --dispatcher_address=HOST:PORT. See --help."
        )
    if _DISPATCHER.value:
        _dispatch(_DEFAULT_PORT if _PORT.value is None else _PORT.value)
    elif _ADDRESS.value is None:
        raise RecipeError("A worker needs its dispatcher: --dispatcher_address=HOST:PORT.")
    else:
        _work(_ADDRESS.value.removeprefix("grpc://"), _PORT.value or 0)


def _dispatch(port: int) -> None:
    _require_free(port)
    start_tensorflow()
    from tensorflow.data.experimental import service

    # The default timeouts are ten minutes for dead workers and five for jobs.
    config = service.DispatcherConfig(
        port=port,
        worker_timeout_ms=_LOST_AFTER,
        job_gc_timeout_ms=_LOST_AFTER,
        job_gc_check_interval_ms=_LOST_AFTER,
    )
    server = service.DispatchServer(config)
    bound = server.target.rpartition(":")[2]
    _wait(f"dispatcher  {socket.gethostname()}:{bound}")
    server.stop()


def _work(dispatcher: str, port: int) -> None:
    address = f"grpc://{dispatcher}"
    parse_address(address)
    _wait_for(address)
    if port:
        _require_free(port)
    host = _HOST.value or _seen_from(dispatcher)
    start_tensorflow()
    from tensorflow.data.experimental import service

    host_name = f"[{host}]" if ":" in host else host
    config = service.WorkerConfig(
        dispatcher_address=dispatcher,
        worker_address=f"{host_name}:%port%",
        port=port,
        heartbeat_interval_ms=_HEARTBEAT_INTERVAL,
    )
    server = service.WorkerServer(config)
    _wait(f"worker  on {host_name}, for {dispatcher}")
    server.stop()


def _wait_for(address: str) -> None:
    """Wait for the dispatcher, which may have been started at the same time."""
    deadline = time.monotonic() + _DISPATCHER_TIMEOUT
    while True:
        try:
            require_dispatcher(address)
            return
        except DataServiceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _seen_from(dispatcher: str) -> str:
    """Return the address of this machine on its route to the dispatcher."""
    host, _, port = dispatcher.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as connection:
        address: str = connection.getsockname()[0]
        return address


def _require_free(port: int) -> None:
    """Check that no process listens on a port; TensorFlow would share it silently.

    Raises:
      DataServiceError: If one does.
    """
    with socket.socket() as probe:
        if os.name != "nt":  # where it would allow a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise DataServiceError(
                f"--port must be free. Received: {port}: {error.strerror}. Does another process "
                "use it? Pass another port, or 0 for any free one."
            ) from error


def _wait(line: str) -> None:
    """Print a line, wait for Ctrl-C or SIGTERM, and print that the process stops."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    print(f"{line}  Ctrl-C stops it", flush=True)
    while not stopped.wait(1.0):
        pass
    print("stopped", flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    run_command(main)
