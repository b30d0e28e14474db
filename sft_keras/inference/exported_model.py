"""A run's exported model, to be asked about inputs. Imports TensorFlow when it is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from sft_keras.export.paths import load_exported
from sft_keras.inference.predictions import predictions
from sft_keras.tasks.predictions import Prediction
from sft_keras.tasks.signatures import is_binary

_ARGUMENTS = ("image_bytes", "texts", "text_pairs", "questions", "contexts")


@dataclasses.dataclass(frozen=True)
class Input:
    """What the model is asked about.

    Attributes:
      name: What to call it.
      values: The value of each argument: a file's bytes, or a text.
    """

    name: str
    values: Mapping[str, bytes | str]


class ExportedModel:
    """Answers about raw inputs; may be asked by several threads at a time.

    Attributes:
      arguments: What it takes, in the order in which a person gives them: "image_bytes"; "texts",
        with "text_pairs" for pairs; "questions" and "contexts".
      outputs: The names of what it answers, see `sft_keras.inference.predictions.kind_of`.
    """

    def __init__(self, run: str | Path) -> None:
        """Loads it.

        Raises:
          RunFolderError: If `run` holds no exported model.
        """
        self._loaded = load_exported(run)  # the signature alone would not keep its variables
        self._answer = self._loaded.signatures["serving_default"]
        taken = self._answer.structured_input_signature[1]
        self.arguments = tuple(name for name in _ARGUMENTS if name in taken)
        self.outputs = frozenset(self._answer.structured_outputs)

    def ask(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Returns an answer for each input, in order; all are computed as one batch.

        Of an image that cannot be decoded, or a text that cannot be written as UTF-8, it says why
        there is none.
        """
        faults = [_fault(each.values) for each in inputs]
        good = [each for each, fault in zip(inputs, faults) if fault is None]
        answered = iter(self._answers(good) if good else ())
        return [
            next(answered) if fault is None else Prediction(each.name, error=fault)
            for each, fault in zip(inputs, faults)
        ]

    def _answers(self, inputs: Sequence[Input]) -> list[Prediction]:
        import tensorflow as tf

        columns = {
            name: tf.constant([_encoded(each.values[name]) for each in inputs])
            for name in self.arguments
        }
        answers = {name: each.numpy() for name, each in self._answer(**columns).items()}
        return predictions([each.name for each in inputs], answers)


def _fault(values: Mapping[str, bytes | str]) -> str | None:
    for name, value in values.items():
        if is_binary(name):
            from sft_keras.vision.faults import undecodable_reason

            reason = undecodable_reason(value)
            if reason is not None:
                return reason
            continue
        try:
            _encoded(value)
        except UnicodeEncodeError as error:
            return f"not a text: what stands at {error.start} is no character"
    return None


def _encoded(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8")
