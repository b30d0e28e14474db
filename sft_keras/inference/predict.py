"""Predictions of a finished run for image files or texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sft_keras.inference.exported_model import ExportedModel, Input
from sft_keras.tasks.predictions import Prediction

_BATCH_SIZE = 32


def predict(run: str | Path, inputs: Iterable[str | Path]) -> Iterator[Prediction]:
    """Yield one prediction per input, in order.

    Example:

    ```
    for prediction in predict("runs/flowers", ["rose.jpg", "holiday_photos"]):
        print(prediction.input, prediction.label)
    ```

    Args:
      run: The run folder.
      inputs: Paths of images and of folders, which stand for all files in and below them; or, for a
        model of texts, the texts. A pair of texts, or a question and its passage, is one input with
        a tab between the two.

    Raises:
      RunFolderError: If the run folder holds no exported model.
    """
    yield from predict_with(ExportedModel(run), inputs)


def predict_with(model: ExportedModel, inputs: Iterable[str | Path]) -> Iterator[Prediction]:
    """Yield one prediction per input as `predict` does, with a model that is already loaded."""
    read: _Read = _read_files if "image_bytes" in model.arguments else _read_texts
    for batch in _batches(read(inputs, model.arguments)):
        predictions = iter(model.predict([item for item in batch if isinstance(item, Input)]))
        yield from (next(predictions) if isinstance(item, Input) else item for item in batch)


_Read = Callable[[Iterable[str | Path], Sequence[str]], Iterator[Input | Prediction]]
"""(inputs, arguments of the model) -> an `Input`, or a `Prediction` with an error, for each."""


def _read_texts(
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


def _batches(items: Iterable[Input | Prediction]) -> Iterator[list[Input | Prediction]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, _BATCH_SIZE)):
        yield batch
