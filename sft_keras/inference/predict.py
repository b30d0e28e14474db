"""Predictions of a finished run for files or texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sft_keras.inference.exported_model import ExportedModel, Input
from sft_keras.tasks.predictions import Prediction

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
