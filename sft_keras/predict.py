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

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from sft_keras.command import run_command
from sft_keras.errors import RunFolderError
from sft_keras.export.location import load_exported, saved_model_of
from sft_keras.predictions import Prediction, predictions
from sft_keras.start_tensorflow import start_tensorflow

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_JSON = flags.DEFINE_bool("json", False, "Print a JSON object a line, with all probabilities.")

_BATCH_SIZE = 32
_ARGUMENTS = ("image_bytes", "texts", "text_pairs", "questions", "contexts")


def predict(run: str | Path, inputs: Iterable[str | Path]) -> Iterator[Prediction]:
    """Yields an answer for each input.

    Args:
      run: The run folder.
      inputs: Paths of images, of which a folder stands for the files in and below it; or, where the
        model was trained on them, texts, or questions with a tab and their passage behind.

    Raises:
      RunFolderError: If `run` holds no exported model.
    """
    yield from asked(load_exported(run), inputs)


def asked(model: Any, inputs: Iterable[str | Path]) -> Iterator[Prediction]:
    """As `predict`, of a model that `load_exported` gave, so that it is loaded once."""
    answer = model.signatures["serving_default"]
    arguments = [name for name in _ARGUMENTS if name in answer.structured_input_signature[1]]
    read = _read_files if "image_bytes" in arguments else _as_texts
    for chunk in _chunks(read(inputs, arguments)):
        good = [given for given in chunk if not isinstance(given, Prediction)]
        answered = iter(_answered(answer, good) if good else ())
        yield from (each if isinstance(each, Prediction) else next(answered) for each in chunk)


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


@dataclasses.dataclass(frozen=True)
class _Given:
    """An input: what to call it, and the value of each argument."""

    name: str
    values: Mapping[str, bytes]


def _as_texts(
    inputs: Iterable[str | Path], arguments: Sequence[str]
) -> Iterator[_Given | Prediction]:
    for text in map(str, inputs):
        parts = text.split("\t") if len(arguments) == 2 else [text]
        if len(parts) == len(arguments):
            yield _Given(text, {name: part.encode() for name, part in zip(arguments, parts)})
        else:
            yield Prediction(text, error="must be two texts with a tab between them")


def _read_files(
    inputs: Iterable[str | Path], arguments: Sequence[str]
) -> Iterator[_Given | Prediction]:
    from sft_keras.data.image_faults import undecodable_reason

    (argument,) = arguments
    for path in _files(inputs):
        try:
            encoded = path.read_bytes()
        except OSError as error:
            yield Prediction(str(path), error=f"cannot be read: {error.strerror}")
            continue
        reason = undecodable_reason(encoded)
        if reason is None:
            yield _Given(str(path), {argument: encoded})
        else:
            yield Prediction(str(path), error=reason)


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


def _answered(answer: Any, given: Sequence[_Given]) -> list[Prediction]:
    import tensorflow as tf

    columns = {name: tf.constant([each.values[name] for each in given]) for name in given[0].values}
    answers = {name: each.numpy() for name, each in answer(**columns).items()}
    return predictions([each.name for each in given], answers)


if __name__ == "__main__":
    run_command(main)
