"""Asks a run's exported model about files.

    python -m sft_keras.predict --run=runs/quickstart photo.jpg folder_of_photos

Prints a line a file, or a JSON object a line with --json. A file that cannot be read is reported
and the others are answered all the same; the exit status is then 1.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from sft_keras.command import run_command
from sft_keras.errors import RunFolderError

if TYPE_CHECKING:
    import numpy as np

_RUN = flags.DEFINE_string("run", None, "The run folder, as `python -m sft_keras.run` made it.")
_JSON = flags.DEFINE_bool("json", False, "Print a JSON object a line, with all probabilities.")

_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The model's answer about one file, or why there is none.

    Attributes:
      path: The file.
      label: The most probable class, or None.
      probabilities: {class name: probability}; empty where there is no answer.
      error: Why there is no answer, or None.
    """

    path: str
    label: str | None = None
    probabilities: dict[str, float] = dataclasses.field(default_factory=dict)
    error: str | None = None


def predict(run: str | Path, paths: Sequence[str | Path]) -> Iterator[Prediction]:
    """Yields an answer for each file; a folder stands for the files in and below it.

    Raises:
      RunFolderError: If `run` holds no exported model.
    """
    import tensorflow as tf

    model = tf.saved_model.load(str(_export_of(Path(run))))
    answer = model.signatures["serving_default"]
    for chunk in _chunks(_files(paths)):
        read = {path: _readable(path) for path in chunk}
        encoded = {path: one for path, one in read.items() if isinstance(one, bytes)}
        answered = _answered(answer, encoded) if encoded else {}
        yield from (answered.get(path, read[path]) for path in read)


def main(argv: Sequence[str]) -> None:
    """Prints the predictions; exits with 1 if a file had none."""
    if _RUN.value is None or len(argv) < 2:
        raise RunFolderError(
            "Say which run and which files: python -m sft_keras.predict --run=RUN_FOLDER FILE..."
        )
    _export_of(Path(_RUN.value))  # before TensorFlow is imported
    failed = 0
    for prediction in predict(_RUN.value, argv[1:]):
        failed += prediction.error is not None
        if _JSON.value:
            print(json.dumps(dataclasses.asdict(prediction), ensure_ascii=False), flush=True)
        elif prediction.error is not None:
            print(f"{prediction.path}: {prediction.error}", file=sys.stderr, flush=True)
        else:
            probability = prediction.probabilities[prediction.label]
            print(f"{probability:6.1%}  {prediction.label:<24}  {prediction.path}", flush=True)
    if failed:
        sys.exit(1)


def _export_of(run: Path) -> Path:
    folder = run.expanduser() / "export"
    if not (folder / "saved_model.pb").is_file():
        raise RunFolderError(
            f"--run must be the folder of a finished run. Received: {str(run)!r}, which holds no "
            "export/saved_model.pb."
        )
    return folder


def _files(paths: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _chunks(paths: Iterable[Path]) -> Iterator[list[Path]]:
    rest = iter(paths)
    while chunk := list(itertools.islice(rest, _BATCH_SIZE)):
        yield chunk


def _readable(path: Path) -> bytes | Prediction:
    """Returns the file's bytes, or the answer that it is no image."""
    from sft_keras.data.image_faults import undecodable_reason

    try:
        encoded = path.read_bytes()
    except OSError as error:
        return Prediction(str(path), error=f"cannot be read: {error.strerror}")
    reason = undecodable_reason(encoded)
    return encoded if reason is None else Prediction(str(path), error=reason)


def _answered(answer: Any, encoded: Mapping[Path, bytes]) -> dict[Path, Prediction]:
    import tensorflow as tf

    answers = answer(image_bytes=tf.constant(list(encoded.values())))
    names = [name.decode() for name in answers["class_names"].numpy()[0]]
    labels: np.ndarray = answers["label"].numpy()
    rows: np.ndarray = answers["probabilities"].numpy()
    return {
        path: Prediction(str(path), label.decode(), dict(zip(names, map(float, row))))
        for path, label, row in zip(encoded, labels, rows)
    }


if __name__ == "__main__":
    run_command(main)
