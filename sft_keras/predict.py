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

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from sft_keras.command import run_command
from sft_keras.errors import RunFolderError
from sft_keras.export.location import saved_model_of
from sft_keras.exported_model import ExportedModel, Input
from sft_keras.predictions import Prediction
from sft_keras.start_tensorflow import start_tensorflow

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_JSON = flags.DEFINE_bool("json", False, "Print a JSON object a line, with all probabilities.")

_BATCH_SIZE = 32


def predict(run: str | Path, inputs: Iterable[str | Path]) -> Iterator[Prediction]:
    """Yields an answer for each input.

    Args:
      run: The run folder.
      inputs: Paths of images, of which a folder stands for the files in and below it; or, where the
        model was trained on them, texts, or questions with a tab and their passage behind.

    Raises:
      RunFolderError: If `run` holds no exported model.
    """
    yield from asked(ExportedModel(run), inputs)


def asked(model: ExportedModel, inputs: Iterable[str | Path]) -> Iterator[Prediction]:
    """As `predict`, of a model that is loaded already."""
    read = _read_files if "image_bytes" in model.arguments else _as_texts
    for chunk in _chunks(read(inputs, model.arguments)):
        answered = iter(model.ask([given for given in chunk if isinstance(given, Input)]))
        yield from (next(answered) if isinstance(each, Input) else each for each in chunk)


def main(argv: Sequence[str]) -> None:
    """Prints the predictions; exits with 1 if a file had none."""
    if _RUN.value is None or len(argv) < 2:
        raise RunFolderError(
            "Say which run, and which files or texts: "
            "python -m sft_keras.predict --run=RUN_FOLDER FILE_OR_TEXT..."
        )
    saved_model_of(_RUN.value)  # before TensorFlow is imported
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


def _as_texts(
    inputs: Iterable[str | Path], arguments: Sequence[str]
) -> Iterator[Input | Prediction]:
    for text in map(str, inputs):
        parts = text.split("\t") if len(arguments) == 2 else [text]
        if len(parts) == len(arguments):
            yield Input(text, dict(zip(arguments, parts)))
        else:
            yield Prediction(text, error="must be two texts with a tab between them")


def _read_files(
    inputs: Iterable[str | Path], arguments: Sequence[str]
) -> Iterator[Input | Prediction]:
    (argument,) = arguments
    for path in _files(inputs):
        try:
            yield Input(str(path), {argument: path.read_bytes()})
        except OSError as error:
            yield Prediction(str(path), error=f"cannot be read: {error.strerror}")


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, _BATCH_SIZE)):
        yield chunk


if __name__ == "__main__":
    run_command(main)
