"""Asks a run's exported model about files, or about texts.

    python -m sft_keras.predict --run=runs/quickstart photo.jpg folder_of_photos
    python -m sft_keras.predict --run=runs/bert_sentiment "A film to remember." "Dull."
    python -m sft_keras.predict --run=runs/bert_squad "QUESTION<TAB>PASSAGE"

Prints a line for each: the class and its probability, the labels that apply with theirs, the number
or the answer; of a text in which entities were found a line for each of them; or a JSON object a
line with --json. Texts may also come from standard input, a line each, with `-`; of a pair, or of a
question and its passage, a tab stands between the two. A file that cannot be read is reported and
the others are answered all the same; the exit status is then 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RunFolderError
from sft_keras.export.paths import saved_model_path
from sft_keras.inference.predict import predict

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_JSON = flags.DEFINE_bool("json", False, "Print a JSON object a line, with all probabilities.")


def main(argv: Sequence[str]) -> None:
    """Prints the predictions; exits with 1 if a file had none."""
    if _RUN.value is None or len(argv) < 2:
        raise RunFolderError(
            "Say which run, and which files or texts: "
            "python -m sft_keras.predict --run=RUN_FOLDER FILE_OR_TEXT..."
        )
    saved_model_path(_RUN.value)  # before TensorFlow is imported
    start_tensorflow()
    given = (line.rstrip("\n") for line in sys.stdin) if argv[1:] == ["-"] else argv[1:]
    failed = 0
    for prediction in predict(_RUN.value, given):
        failed += prediction.error is not None
        if _JSON.value:
            print(json.dumps(prediction.as_json(), ensure_ascii=False), flush=True)
        elif prediction.error is not None:
            print(f"{prediction.input}: {prediction.error}", file=sys.stderr, flush=True)
        else:
            print(*prediction.lines(), sep="\n", flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
