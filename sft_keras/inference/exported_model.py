"""A run's exported model, ready for predictions. TensorFlow is imported when a model is loaded."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from sft_keras.export.paths import load_exported, saved_model_path
from sft_keras.export.task_file import read_served_task
from sft_keras.tasks.predictions import Prediction
from sft_keras.tasks.signatures import is_binary


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of an exported model.

    Attributes:
      name: The `Prediction.input` of its prediction, e.g. the path of a file.
      values: The value of each argument: the bytes of a file, or a text.
    """

    name: str
    values: Mapping[str, bytes | str]


class ExportedModel:
    """Predictions for raw inputs; several threads may use a model at the same time.

    Example:

    ```
    model = ExportedModel("runs/sentiment")
    (prediction,) = model.predict([Input("a film", {"texts": "What a lovely film."})])
    ```

    Attributes:
      arguments: The names of the model's arguments in the order in which users give them:
        "image_bytes"; "texts", and "text_pairs" for pairs; or "questions" and "contexts".
      config: The configuration of its task, which decodes its outputs.
    """

    def __init__(self, run: str | Path) -> None:
        """Load the exported model of a run folder.

        Raises:
          RunFolderError: If the folder holds no exported model.
        """
        self._loaded = load_exported(run)  # kept: the signature alone does not keep its variables
        self._signature = self._loaded.signatures["serving_default"]
        served = read_served_task(run, tuple(self._signature.structured_input_signature[1]))
        self.config, self.arguments = served.config, served.arguments

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Return one prediction per input, in order, computed as one batch.

        The prediction for an image that cannot be decoded, or for a text that is not valid Unicode,
        has only an `error`.
        """
        inputs = [_readable(one_input) for one_input in inputs]
        faults = [_fault(one_input.values) for one_input in inputs]
        valid = [one_input for one_input, fault in zip(inputs, faults) if fault is None]
        predictions = iter(self._predict_batch(valid) if valid else ())
        return [
            next(predictions) if fault is None else Prediction(one_input.name, error=fault)
            for one_input, fault in zip(inputs, faults)
        ]

    def _predict_batch(self, inputs: Sequence[Input]) -> list[Prediction]:
        import tensorflow as tf

        columns = {
            name: tf.constant([_to_bytes(one_input.values[name]) for one_input in inputs])
            for name in self.arguments
        }
        outputs = {name: tensor.numpy() for name, tensor in self._signature(**columns).items()}
        return self.config.predictions([one_input.name for one_input in inputs], outputs)


def load_cached(run: str | Path) -> ExportedModel:
    """Return the exported model of a run, loaded once until another run or a new export is asked.

    Raises:
      RunFolderError: If the folder holds no exported model.
    """
    modified = (saved_model_path(run) / "saved_model.pb").stat().st_mtime_ns
    return _load(Path(run).expanduser().resolve(), modified)


@functools.lru_cache(maxsize=1)
def _load(run: Path, modified: int) -> ExportedModel:
    """Load a model; `modified`, in nanoseconds, tells a new export in the same folder apart."""
    return ExportedModel(run)


def _readable(one_input: Input) -> Input:
    """Return the input with images that only Pillow reads converted to PNG, as in training."""
    return dataclasses.replace(
        one_input, values={name: _convert(name, value) for name, value in one_input.values.items()}
    )


def _convert(name: str, value: bytes | str) -> bytes | str:
    if not is_binary(name) or isinstance(value, str):
        return value
    from sft_keras.vision.conversion import to_png

    try:
        return to_png(value)
    except ValueError:  # its reason is reported as a fault
        return value


def _fault(values: Mapping[str, bytes | str]) -> str | None:
    """Return why the model cannot read an input, or None."""
    for name, value in values.items():
        if is_binary(name):
            from sft_keras.vision.faults import undecodable_reason

            reason = undecodable_reason(_to_bytes(value))
            if reason is not None:
                return reason
            continue
        try:
            _to_bytes(value)
        except UnicodeEncodeError as error:
            return f"not valid Unicode: lone surrogate at index {error.start}"
    return None


def _to_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8")
