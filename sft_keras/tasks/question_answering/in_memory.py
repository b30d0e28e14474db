"""Questions and passages that are in memory already. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.tasks.question_answering.examples import Answer, Question, only_place

Asked = tuple[str, str, Sequence[str | tuple[str, int]]]
"""(question, passage, answers)."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Questions(InMemorySource):
    """A data source made of lists.

    Each split is a list of (question, passage, answers). An answer is a text that stands once in
    the passage, or (text, start) with the character at which it begins; no answers where the
    passage does not say.

    Attributes:
      train: The training split.
      validation: The validation split; None to have it split off from `train`.
      test: The test split; None to have it split off from `train`.
    """

    train: Sequence[Asked]
    validation: Sequence[Asked] | None = None
    test: Sequence[Asked] | None = None

    def __repr__(self) -> str:
        sizes = (f"{name}={len(asked)}" for name, asked in self.given().items())
        return f"Questions({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Returns what is wrong with the lists, one sentence each."""
        faults = []
        for name, asked in self.given().items():
            wrong = [each for each in asked if not _is_asked(each)]
            if wrong:
                faults.append(
                    f"`{name}` must hold (question, passage, answers), where answers are a list of "
                    f"texts or of (text, start). {len(wrong)} are not; the first: "
                    f"{repr(wrong[0])[:120]}."
                )
                continue
            unclear = [
                (number, answer)
                for number, (_, context, answers) in enumerate(asked)
                for answer in answers
                if isinstance(answer, str) and only_place(answer, context) is None
            ]
            if unclear:
                number, answer = unclear[0]
                faults.append(
                    f"Answers of `{name}` must stand in their passage once, or be (text, start). "
                    f"{len(unclear)} do not; the first: {answer[:60]!r} of {name}[{number}]."
                )
        return faults

    def as_questions(self) -> dict[str, list[Question]]:
        """Returns the questions by split; there must be no faults."""
        return {
            name: [
                Question(f"{name}[{number}]", context, question, _answers(answers, context))
                for number, (question, context, answers) in enumerate(asked)
            ]
            for name, asked in self.given().items()
        }


def _is_asked(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 3:
        return False
    question, context, answers = value
    return (
        isinstance(question, str)
        and isinstance(context, str)
        and isinstance(answers, tuple | list)
        and all(isinstance(each, str) or _is_placed(each) for each in answers)
    )


def _is_placed(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def _answers(given: Sequence[str | tuple[str, int]], context: str) -> tuple[Answer, ...]:
    return tuple(
        Answer(each, context.index(each)) if isinstance(each, str) else Answer(*each)
        for each in given
    )
