"""Writes a finished run's model in other formats, and measures each beside the trained model.

    python -m sft_keras.export --run=runs/quickstart --format=litert,litert_int8,onnx

Leaves RUN/exports with a file for each format and exports.json, and adds a section to the run's
report. Every file is loaded by its own runtime in a fresh process and asked about the whole test
split; one that does not answer as the trained model is removed, and the exit status is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RecipeError
from sft_keras.export.finished_run import read_run
from sft_keras.export.formats import FORMATS, chosen_formats, require_possible

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_FORMAT = flags.DEFINE_list("format", [], f"Which formats: {', '.join(FORMATS)}.")
_ACCEPT_LOSS = flags.DEFINE_bool(
    "accept_loss", False, "Keep a file in integers even if its score on validation falls."
)
_THREADS = flags.DEFINE_integer(
    "threads", 1, "That a runtime may use when its latency is measured.", lower_bound=1
)


def main(argv: Sequence[str]) -> None:
    """Does what the flags ask for."""
    if len(argv) > 1:
        raise RecipeError(f"Flags begin with --. Received: {' '.join(argv[1:])!r}. See --help.")
    if _RUN.value is None:
        raise RecipeError("Say which run: --run=RUN_FOLDER, e.g. --run=runs/quickstart.")
    require_possible(chosen_formats(_FORMAT.value), read_run(_RUN.value).recipe)

    start_tensorflow()
    from sft_keras.export.export import export_run

    export_run(_RUN.value, _FORMAT.value, accept_loss=_ACCEPT_LOSS.value, threads=_THREADS.value)


if __name__ == "__main__":
    run_command(main)
