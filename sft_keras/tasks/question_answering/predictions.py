"""Predictions from the outputs of an exported question-answering model. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from typing_extensions import override

from sft_keras.tasks.predictions import Prediction, ServedOutputs


@dataclasses.dataclass(frozen=True)
class AnswerPrediction(Prediction):
    """The answer to a question on a passage.

    Attributes:
      label: The answer; "" if the passage has none.
      probabilities: {answer: its probability}.
      start: Position in the passage of the answer's first character; -1 for no answer.
      end: Position of the character after its last one; -1 for no answer.
    """

    start: int = -1
    end: int = -1

    @override
    def lines(self) -> list[str]:
        """Return the line to print; of the input, only the question is shown."""
        question, answer = self.input.partition("\t")[0], self.label or "(no answer)"
        probability = self.probabilities[self.label or ""]
        return [f"{probability:6.1%}  {answer:<24}  {question}"]


def answer_predictions(names: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
    """Return the answer to each question.

    Args:
      names: Question and passage of each input, with a tab between them.
      outputs: Arrays by output name.
    """
    columns = (outputs[name].tolist() for name in ("answer", "probability", "start", "end"))
    return [
        AnswerPrediction(name, text.decode(), {text.decode(): probability}, start=start, end=end)
        for name, text, probability, start, end in zip(names, *columns)
    ]
