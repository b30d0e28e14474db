"""Serves a run's exported model over HTTP, in the form of TensorFlow Serving's REST API.

    python -m sft_keras.serve --run=runs/quickstart

answers until Ctrl-C, on this machine alone unless --host says otherwise; it knows no users and
no encryption. See docs/serving.md.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RunFolderError, ServingError
from sft_keras.export.paths import saved_model_path
from sft_keras.serving.http import bound_socket, require_installed, serve_until_stopped, url_of

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.")
_PORT = flags.DEFINE_integer(
    "port", 8501, "The port to listen on; 0 for a free one.", lower_bound=0, upper_bound=65535
)
_NAME = flags.DEFINE_string("name", None, "What requests call the model; default: the run's name.")
_MOST = flags.DEFINE_integer("max_request_mb", 32, "The most MB of a request.", lower_bound=1)
_THREADS = flags.DEFINE_integer(
    "threads", None, "Threads that compute at a time; default: the CPU cores, at most 8.", 1
)
_LOG = flags.DEFINE_bool("log_requests", True, "Print a line for each request.")

_PACKAGES = ("starlette", "uvicorn")
_GRACE = 10  # seconds


def main(_: Sequence[str]) -> None:
    """Serves until it is stopped."""
    if _RUN.value is None:
        raise RunFolderError("Say which run: python -m sft_keras.serve --run=RUN_FOLDER")
    # All that can be wrong is said before TensorFlow is imported.
    saved_model_path(_RUN.value)
    require_installed(_PACKAGES, "serve", "The server")
    name = _name()
    with bound_socket(_HOST.value, _PORT.value) as bound:
        start_tensorflow()
        _serve(name, bound)


def _name() -> str:
    name = _NAME.value or Path(_RUN.value).expanduser().resolve().name
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ServingError(
            "The model's name must be of letters, digits, '.', '-' and '_'. "
            f"Received: {name!r}. Pass --name."
        )
    return name


def _serve(name: str, bound: socket.socket) -> None:
    from sft_keras.serving.app import LOG, Application
    from sft_keras.serving.limits import Limits
    from sft_keras.serving.model import ServedModel

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO if _LOG.value else logging.WARNING)
    LOG.propagate = False
    threads = _THREADS.value or min(os.cpu_count() or 1, 8)
    model = ServedModel(_RUN.value, name, Limits(body_bytes=_MOST.value * 2**20), threads)

    line = f"serving {url_of(bound)}/v1/models/{name}  Ctrl-C ends it"
    serve_until_stopped(Application(model).starlette(), bound, line, _GRACE)


if __name__ == "__main__":
    run_command(main)
