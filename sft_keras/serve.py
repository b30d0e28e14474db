"""Serve the exported model of a run over HTTP, with the REST API of TensorFlow Serving.

    python -m sft_keras.serve --run=runs/quickstart

serves until Ctrl-C. By default only this machine can connect, see --host. There is no
authentication and no encryption. docs/serving.md has the details.
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

_RUN = flags.DEFINE_string("run", None, "The run folder, written by `python -m sft_keras.run`.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.")
_PORT = flags.DEFINE_integer(
    "port", 8501, "The port to listen on; 0 for a free one.", lower_bound=0, upper_bound=65535
)
_NAME = flags.DEFINE_string(
    "name", None, "Model name in request paths; default: the name of the run folder."
)
_MOST = flags.DEFINE_integer(
    "max_request_mb", 32, "Maximum size of a request, in MB.", lower_bound=1
)
_THREADS = flags.DEFINE_integer(
    "threads", None, "Threads that run the model; default: the number of CPU cores, at most 8.", 1
)
_LOG = flags.DEFINE_bool("log_requests", True, "Print one line per request.")

_PACKAGES = ("starlette", "uvicorn")
_GRACE = 10  # seconds


def main(_: Sequence[str]) -> None:
    """Serve until stopped."""
    if _RUN.value is None:
        raise RunFolderError("Say which run: python -m sft_keras.serve --run=RUN_FOLDER")
    # Mistakes are reported before TensorFlow is imported.
    saved_model_path(_RUN.value)
    require_installed(_PACKAGES, "serve", "The server")
    name = _model_name(_RUN.value)
    with bound_socket(_HOST.value, _PORT.value) as bound:
        start_tensorflow()
        _serve(_RUN.value, name, bound)


def _model_name(run: str) -> str:
    name = _NAME.value or Path(run).expanduser().resolve().name
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ServingError(
            "The model's name must consist of letters, digits, '.', '-' and '_'. "
            f"Received: {name!r}. Pass --name."
        )
    return name


def _serve(run: str, name: str, bound: socket.socket) -> None:
    from sft_keras.serving.app import LOG, Application
    from sft_keras.serving.limits import Limits
    from sft_keras.serving.model import ServedModel

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO if _LOG.value else logging.WARNING)
    LOG.propagate = False
    threads = _THREADS.value or min(os.cpu_count() or 1, 8)
    model = ServedModel(run, name, Limits(body_bytes=_MOST.value * 2**20), threads)

    line = f"serving {url_of(bound)}/v1/models/{name}  Ctrl-C stops it"
    serve_until_stopped(Application(model).starlette(), bound, line, _GRACE)


if __name__ == "__main__":
    run_command(main)
