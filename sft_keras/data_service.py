"""The processes of a tf.data service, which read and decode pictures for runs on other machines.

    python -m sft_keras.data_service --dispatcher --port=5000                        # one
    python -m sft_keras.data_service --worker --dispatcher_address=10.0.0.1:5000     # many
    python -m sft_keras.run --recipe=... --data_service=grpc://10.0.0.1:5000

Each goes on until Ctrl-C. They know no users and no encryption: keep them within your network. See
docs/scale.md.
"""

from __future__ import annotations

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

_DISPATCHER = flags.DEFINE_bool("dispatcher", False, "Be the one that shares out the work.")
_WORKER = flags.DEFINE_bool("worker", False, "Be one of those that read and decode.")
_PORT = flags.DEFINE_integer(
    "port",
    None,
    "The port to listen on; default: 5000 for the dispatcher, any free one for a worker.",
    lower_bound=0,
    upper_bound=65535,
)
_ADDRESS = flags.DEFINE_string(
    "dispatcher_address", None, "HOST:PORT of the dispatcher that a worker works for."
)
_HOST = flags.DEFINE_string(
    "host", None, "What others call a worker's machine; default: as the dispatcher sees it."
)

_DEFAULT_PORT = 5000
_DISPATCHER_AWAITED = 60.0  # seconds
_HEARD_EVERY = 5_000  # milliseconds
_FORGOTTEN_AFTER = 60_000  # milliseconds


def main(argv: Sequence[str]) -> None:
    """Is a dispatcher or a worker until it is stopped."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _DISPATCHER.value == _WORKER.value:
        raise RecipeError(
            "Say what to be: --dispatcher, or --worker --dispatcher_address=HOST:PORT. See --help."
        )
    if _DISPATCHER.value:
        _dispatch(_DEFAULT_PORT if _PORT.value is None else _PORT.value)
    elif _ADDRESS.value is None:
        raise RecipeError("A worker must know for whom: --dispatcher_address=HOST:PORT.")
    else:
        _work(_ADDRESS.value.removeprefix("grpc://"), _PORT.value or 0)


def _dispatch(port: int) -> None:
    _require_free(port)
    start_tensorflow()
    from tensorflow.data.experimental import service

    # By default workers that have died are remembered for ten minutes, and jobs for five.
    config = service.DispatcherConfig(
        port=port,
        worker_timeout_ms=_FORGOTTEN_AFTER,
        job_gc_timeout_ms=_FORGOTTEN_AFTER,
        job_gc_check_interval_ms=_FORGOTTEN_AFTER,
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

    named = f"[{host}]" if ":" in host else host
    config = service.WorkerConfig(
        dispatcher_address=dispatcher,
        worker_address=f"{named}:%port%",
        port=port,
        heartbeat_interval_ms=_HEARD_EVERY,
    )
    server = service.WorkerServer(config)
    _wait(f"worker  on {named}, for {dispatcher}")
    server.stop()


def _wait_for(address: str) -> None:
    """Waits for the dispatcher, which may have been started at the same time."""
    deadline = time.monotonic() + _DISPATCHER_AWAITED
    while True:
        try:
            require_dispatcher(address)
            return
        except DataServiceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _seen_from(dispatcher: str) -> str:
    """Returns the address of this machine on its way to the dispatcher."""
    host, _, port = dispatcher.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as connection:
        return connection.getsockname()[0]


def _require_free(port: int) -> None:
    """Raises a `DataServiceError` if something listens on a port; TensorFlow would share it."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError as error:
            raise DataServiceError(
                f"--port must be free. Received: {port}: {error.strerror}. Is another one running "
                "there? Take another port, or 0 for any that is free."
            ) from error


def _wait(line: str) -> None:
    """Waits for Ctrl-C or SIGTERM, and says when it has come."""
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())
    print(f"{line}  Ctrl-C ends it", flush=True)
    while not stopped.wait(1.0):
        pass
    print("stopped", flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    run_command(main)
