"""Predict files, texts or tables of texts with the exported model of a run.

    python -m sft_keras.predict --run=runs/quickstart photo.jpg folder_of_photos
    python -m sft_keras.predict --run=runs/bert_sentiment "A film to remember." "Dull."
    python -m sft_keras.predict --run=runs/bert_sentiment --column=review reviews.csv
    python -m sft_keras.predict --run=runs/bert_squad "QUESTION<TAB>PASSAGE"

Prints one line per input: the class and its probability, the labels that apply with their
probabilities, the number or the answer; for a text with entities, one line per entity. --json
prints one JSON object per line instead. With `-`, inputs are read from standard input, one per
line. A tab separates the two texts of a pair, or a question from its passage. A folder stands for
the images in and below it, a table (.csv, .tsv, .jsonl, .parquet) for its rows. A file that cannot
be read is reported, the others are still predicted, and the exit status is 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.cli.tensorflow import start_tensorflow
from sft_keras.core.errors import RunFolderError
from sft_keras.export.paths import saved_model_path
from sft_keras.inference.inputs import table_or_text
from sft_keras.inference.predict import predict

_RUN = flags.DEFINE_string("run", None, "The run folder, written by `python -m sft_keras.run`.")
_COLUMN = flags.DEFINE_multi_string(
    "column",
    [],
    "The column of a table that holds the texts; for pairs, pass it twice. Default: that of the "
    "training data, text and text_pair, question and context, or the only columns.",
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per line, with all probabilities.")


def main(argv: Sequence[str]) -> None:
    """Print the predictions; exit with status 1 if an input could not be read."""
    if _RUN.value is None or len(argv) < 2:
        raise RunFolderError(
            "Pass a run and files or texts: "
            "python -m sft_keras.predict --run=RUN_FOLDER FILE_OR_TEXT..."
        )
    saved_model_path(_RUN.value)  # before TensorFlow is imported
    start_tensorflow()
    inputs: Iterable[str | Path] = map(table_or_text, argv[1:])
    if argv[1:] == ["-"]:
        inputs = (line.rstrip("\r\n") for line in sys.stdin)
    failed = 0
    for prediction in predict(_RUN.value, inputs, _COLUMN.value):
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
    run_command(main, takes_texts=True)
