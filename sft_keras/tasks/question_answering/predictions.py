"""Predicted answers from the outputs of an exported model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.tasks.predictions import Prediction, ServedOutputs


@dataclasses.dataclass(frozen=True)
class AnswerPrediction(Prediction):
    """The model's answer to a question on a passage.

    Attributes:
      label: The answer; "" where the passage does not say.
      probabilities: {the answer: its probability}.
      start, end: Where in the passage it is, in characters; -1 for nowhere.
    """

    start: int = -1
    end: int = -1

    def lines(self) -> list[str]:
        """See `Prediction.lines`; of the input the question is shown."""
        question, answer = self.input.partition("\t")[0], self.label or "(no answer)"
        return [f"{self.probabilities[self.label]:6.1%}  {answer:<24}  {question}"]


def answer_predictions(names: Sequence[str], answers: ServedOutputs) -> list[Prediction]:
    """Return the answer to each question."""
    columns = (answers[each].tolist() for each in ("answer", "probability", "start", "end"))
    return [
        AnswerPrediction(name, text.decode(), {text.decode(): probability}, start=start, end=end)
        for name, text, probability, start, end in zip(names, *columns)
    ]
