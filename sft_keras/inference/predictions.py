"""Predictions from the outputs of an exported model, whatever its task. No TensorFlow."""

from __future__ import annotations

from collections.abc import Container, Sequence

from sft_keras.tasks.predictions import (
    Prediction,
    ServedOutputs,
    class_predictions,
    label_set_predictions,
    number_predictions,
)
from sft_keras.tasks.question_answering.predictions import answer_predictions
from sft_keras.tasks.token_classification.predictions import entity_predictions


def predictions(names: Sequence[str], answers: ServedOutputs) -> list[Prediction]:
    """Returns the prediction for each input.

    Args:
      names: What each input is called.
      answers: Arrays by name, as the exported model gives them.
    """
    return _KINDS[kind_of(answers)](names, answers)


def kind_of(outputs: Container[str]) -> str:
    """Returns the one of a model's outputs that tells what kind of answer it gives.

    "answer" to a question, "text_index" of entities, "label" of one class, "chosen" of any number
    of them, or "value" for a number.
    """
    return next(output for output in _KINDS if output in outputs)


# By an output that only this kind of answer has.
_KINDS = {
    "answer": answer_predictions,
    "text_index": entity_predictions,
    "label": class_predictions,
    "chosen": label_set_predictions,
    "value": number_predictions,
}
