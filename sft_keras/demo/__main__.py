"""Serves a web page to try the exported model of a run.

    python -m sft_keras.demo --run=runs/quickstart

runs until Ctrl-C. By default the page is reachable only from this machine; --host changes that. It
has no authentication and no encryption. Uploads stay on this machine and are deleted on exit.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Sequence

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RunFolderError
from sft_keras.demo.header import About, read_about
from sft_keras.export.paths import saved_model_path
from sft_keras.serving.http import bound_socket, require_installed, serve_until_stopped, url_of

_RUN = flags.DEFINE_string("run", None, "The run folder, written by `python -m sft_keras.run`.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.")
_PORT = flags.DEFINE_integer(
    "port", 7860, "The port to listen on; 0 for a free one.", lower_bound=0, upper_bound=65535
)
_MAX_UPLOAD_MB = flags.DEFINE_integer(
    "max_upload_mb", 32, "The maximum size of an image in MB.", lower_bound=1
)

_GRACE = 1  # seconds; an open page never closes its connection


def main(_: Sequence[str]) -> None:
    """Serve the page until it is stopped."""
    if _RUN.value is None:
        raise RunFolderError("Say which run: python -m sft_keras.demo --run=RUN_FOLDER")
    # Report every mistake before TensorFlow and Gradio are imported, which takes seconds.
    saved_model_path(_RUN.value)
    about = read_about(_RUN.value)
    require_installed(["gradio"], "demo", "The page")
    with (
        bound_socket(_HOST.value, _PORT.value) as bound,
        tempfile.TemporaryDirectory(prefix="sft_keras_demo_") as uploads,
    ):
        # Gradio reads these when it is imported.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        start_tensorflow()
        _serve(_RUN.value, about, bound)


def _serve(run: str, about: About, bound: socket.socket) -> None:
    from sft_keras.demo.page import application, build_page
    from sft_keras.inference.exported_model import ExportedModel
    from sft_keras.serving.limits import Limits

    page = build_page(ExportedModel(run), about, Limits())
    line = f"page {url_of(bound)}  Ctrl-C ends it"
    serve_until_stopped(application(page, _MAX_UPLOAD_MB.value), bound, line, _GRACE)


if __name__ == "__main__":
    run_command(main)
