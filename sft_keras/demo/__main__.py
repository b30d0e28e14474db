"""Opens a page to try a run's exported model in a browser.

    python -m sft_keras.demo --run=runs/quickstart

serves it until Ctrl-C, to this machine alone unless --host says otherwise; it knows no users and
no encryption. What is uploaded stays on this machine, and is deleted at the end.
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

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.")
_PORT = flags.DEFINE_integer(
    "port", 7860, "The port to listen on; 0 for a free one.", lower_bound=0, upper_bound=65535
)
_MOST = flags.DEFINE_integer("max_upload_mb", 32, "The most MB of a picture.", lower_bound=1)

_GRACE = 1  # seconds; a page that is open holds its connection for ever


def main(_: Sequence[str]) -> None:
    """Serves the page until it is stopped."""
    if _RUN.value is None:
        raise RunFolderError("Say which run: python -m sft_keras.demo --run=RUN_FOLDER")
    # All that can be wrong is said before TensorFlow and Gradio are imported.
    saved_model_path(_RUN.value)
    about = read_about(_RUN.value)
    require_installed(["gradio"], "demo", "The page")
    with (
        bound_socket(_HOST.value, _PORT.value) as bound,
        tempfile.TemporaryDirectory(prefix="sft_keras_demo_") as uploads,
    ):
        # Read by Gradio when it is imported.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        start_tensorflow()
        _serve(about, bound)


def _serve(about: About, bound: socket.socket) -> None:
    from sft_keras.demo.page import application, build_page
    from sft_keras.inference.exported_model import ExportedModel
    from sft_keras.serving.limits import Limits

    page = build_page(ExportedModel(_RUN.value), about, Limits())
    line = f"page {url_of(bound)}  Ctrl-C ends it"
    serve_until_stopped(application(page, _MOST.value), bound, line, _GRACE)


if __name__ == "__main__":
    run_command(main)
