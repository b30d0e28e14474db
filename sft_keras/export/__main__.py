"""Exports a finished run to other formats, and compares each file with the trained model.

    python -m sft_keras.export --run=runs/quickstart --format=litert,litert_int8,onnx

Writes one file per format and exports.json to RUN/exports, and adds a section to the run's report.
Every file is loaded by its own runtime in a fresh process and run on the whole test split. A file
whose outputs differ from the trained model's is removed, and the exit status is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RecipeError
from sft_keras.export.finished_run import read_run
from sft_keras.export.formats import FORMATS, require_exportable, select_formats

_RUN = flags.DEFINE_string("run", None, "The run folder, written by `python -m sft_keras.run`.")
_FORMAT = flags.DEFINE_list(
    "format", [], f"The formats to export, separated by commas: {', '.join(FORMATS)}."
)
_ACCEPT_LOSS = flags.DEFINE_bool(
    "accept_loss", False, "Keep a quantized file even if its validation score drops."
)
_THREADS = flags.DEFINE_integer(
    "threads", 1, "Threads that a runtime may use when its latency is measured.", lower_bound=1
)


def main(argv: Sequence[str]) -> None:
    """Export the run that the flags name."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _RUN.value is None:
        raise RecipeError(
            "--run must name a run folder, e.g. --run=runs/quickstart. Received none."
        )
    require_exportable(select_formats(_FORMAT.value), read_run(_RUN.value).recipe)

    start_tensorflow()
    from sft_keras.export.export import export_run

    export_run(_RUN.value, _FORMAT.value, accept_loss=_ACCEPT_LOSS.value, threads=_THREADS.value)


if __name__ == "__main__":
    run_command(main)
