"""Predictions of a finished run for image files, texts or tables of texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sft_keras.core.files import read_json, reading_run_file
from sft_keras.inference.exported_model import ExportedModel, Input, load_cached
from sft_keras.inference.inputs import read_inputs
from sft_keras.runs.folder import RECIPE
from sft_keras.tasks.predictions import Prediction

_BATCH_SIZE = 32
_DATA_COLUMNS = {"texts": "text", "text_pairs": "text_pair"}
"""{argument of a model: key of `Data.columns`}."""


def predict(
    run: str | Path,
    inputs: str | Path | Iterable[str | Path],
    columns: str | Sequence[str] = (),
) -> Iterator[Prediction]:
    """Return one prediction per input, in order, computed as they are read.

    The model of the last run is kept, so that further calls do not load it again.

    Example:

    ```
    for prediction in predict("runs/flowers", ["rose.jpg", "holiday_photos"]):
        print(prediction.input, prediction.label)
    (prediction,) = predict("runs/sentiment", "A film to remember.")
    predictions = list(predict("runs/sentiment", "reviews.csv", columns="review"))
    ```

    Args:
      run: The run folder.
      inputs: One input or several. For a model of images: paths of images and of folders, which
        stand for all images in and below them. For a model of texts: texts, and paths of tables
        (.csv, .tsv, .jsonl, .parquet), which stand for their rows. A pair of texts, or a question
        and its passage, is one input with a tab between the two.
      columns: The column of a table that holds the texts, or both columns for pairs; by default
        those of the training data, "text" and "text_pair", "question" and "context", or the only
        columns.

    Raises:
      RunFolderError: If the run folder holds no exported model.
      DataError: If a table cannot be read; raised when it is reached.
    """
    model = load_cached(run)
    names = [columns] if isinstance(columns, str) else columns
    return _predict_in_batches(
        model, read_inputs(inputs, model.arguments, names, _trained_columns(Path(run)))
    )


def _trained_columns(run: Path) -> dict[str, str]:
    """Return {argument: column} of the table that a run was trained on, if it names any."""
    file = run.expanduser() / RECIPE
    if not file.is_file():
        return {}
    with reading_run_file(file):
        columns = read_json(file)["data"]["columns"]
        named = {argument: columns.get(name) for argument, name in _DATA_COLUMNS.items()}
    return {argument: name for argument, name in named.items() if isinstance(name, str)}


def _predict_in_batches(
    model: ExportedModel, items: Iterator[Input | Prediction]
) -> Iterator[Prediction]:
    while batch := list(itertools.islice(items, _BATCH_SIZE)):
        predictions = iter(model.predict([item for item in batch if isinstance(item, Input)]))
        yield from (next(predictions) if isinstance(item, Input) else item for item in batch)
