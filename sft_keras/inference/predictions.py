"""Predictions from the outputs of an exported model of any task. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from sft_keras.tasks.predictions import (
    Prediction,
    ServedOutputs,
    class_predictions,
    label_set_predictions,
    number_predictions,
)
from sft_keras.tasks.question_answering.predictions import answer_predictions
from sft_keras.tasks.token_classification.predictions import entity_predictions

_DECODERS: dict[str, Callable[[Sequence[str], ServedOutputs], list[Prediction]]] = {
    "answer": answer_predictions,
    "text_index": entity_predictions,
    "label": class_predictions,
    "chosen": label_set_predictions,
    "value": number_predictions,
}
"""By the name of an output that only models of this kind have, see `prediction_kind`."""


def to_predictions(names: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
    """Return one prediction per input.

    Args:
      names: The `Prediction.input` of each.
      outputs: Arrays by output name, as the exported model returns them.
    """
    return _DECODERS[prediction_kind(outputs)](names, outputs)


def prediction_kind(outputs: Container[str]) -> str:
    """Return the kind of a model's predictions, which is the name of a characteristic output.

    Args:
      outputs: The names of the model's outputs.

    Returns:
      "answer" for question answering, "text_index" for entities, "label" for one class, "chosen"
      for any number of classes, or "value" for a number.
    """
    return next(kind for kind in _DECODERS if kind in outputs)
