"""In-memory questions and passages as a data source. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.tasks.question_answering.entries import EntryError, entry_id, is_row, parse_entry
from sft_keras.tasks.question_answering.examples import (
    Answer,
    Question,
    find_unique,
    unique_questions,
)

QuestionTuple = tuple[str, str, Sequence[str | tuple[str, int]]]
"""(question, passage, answers), each answer a text or (text, start)."""
Row = Mapping[str, Any]
"""A row with "question", "context" and "answers", see `parse_entry`."""

_MAX_SHOWN_VALUE, _MAX_SHOWN_ANSWER = 120, 60  # characters


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Questions(InMemorySource):
    """Questions and passages from Python lists, as the data source of `QuestionAnswering`.

    Each split is a list of (question, passage, answers). An answer is a text that occurs exactly
    once in the passage, or (text, start) with the position of its first character. A question that
    the passage does not answer has no answers. Rows of Hugging Face's data sets, with the fields
    "question", "context" and "answers", are accepted too.

    Example:

    >>> from sft_keras import Data, Questions
    >>> passage = "Amundsen reached the South Pole in 1911, Scott in 1912."
    >>> source = Questions(
    ...     train=[
    ...         ("Who was first at the pole?", passage, ["Amundsen"]),
    ...         ("When did Scott arrive?", passage, [("1912", 50)]),
    ...         ("Who was third?", passage, []),
    ...     ]
    ... )
    >>> Data(source=source).source
    Questions(train=3)

    Attributes:
      train: The training split.
      validation: The validation split; None to split it off from `train`.
      test: The test split; None to split it off from `train`.
    """

    train: Sequence[QuestionTuple | Row]
    validation: Sequence[QuestionTuple | Row] | None = None
    test: Sequence[QuestionTuple | Row] | None = None

    def __repr__(self) -> str:
        sizes = (f"{split}={len(questions)}" for split, questions in self.given().items())
        return f"Questions({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Return one message per split that is not usable."""
        messages = (_split_fault(split, questions) for split, questions in self.given().items())
        return [message for message in messages if message is not None]

    def as_questions(self) -> dict[str, list[Question]]:
        """Return the questions by split; `faults` must be empty."""
        return {
            split: unique_questions(
                [_question(value, f"{split}[{index}]") for index, value in enumerate(questions)]
            )[0]
            for split, questions in self.given().items()
        }


def _split_fault(split: str, questions: Sequence[QuestionTuple | Row]) -> str | None:
    tuples = []
    malformed = []
    for index, value in enumerate(questions):
        if is_row(value):
            try:
                _question(value, f"{split}[{index}]")
            except EntryError as error:
                return f"{split}[{index}]: {error}"
        elif _is_question(value):
            tuples.append((index, value))
        else:
            malformed.append(value)
    if malformed:
        return (
            f"`{split}` must be a list of (question, passage, answers), where answers are a list "
            'of texts or of (text, start); or of rows with "question", "context" and "answers". '
            f"{len(malformed)} entries are not. Received: "
            f"{repr(malformed[0])[:_MAX_SHOWN_VALUE]}."
        )
    ambiguous = [
        (index, answer)
        for index, (_, context, answers) in tuples
        for answer in answers
        if isinstance(answer, str) and find_unique(answer, context) is None
    ]
    if ambiguous:
        index, answer = ambiguous[0]
        return (
            f"Answers in `{split}` must occur exactly once in their passage, or be (text, start). "
            f"{len(ambiguous)} do not. Received: {answer[:_MAX_SHOWN_ANSWER]!r} in "
            f"{split}[{index}]."
        )
    return None


def _question(value: QuestionTuple | Row, name: str) -> Question:
    if isinstance(value, Mapping):
        article = str(value.get("title") or "")
        return parse_entry(value, entry_id(value) or name, value["context"], article)
    question, context, answers = value
    return Question(name, context, question, _answers(answers, context))


def _is_question(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 3:
        return False
    question, context, answers = value
    return (
        isinstance(question, str)
        and isinstance(context, str)
        and isinstance(answers, tuple | list)
        and all(isinstance(answer, str) or _is_text_and_start(answer) for answer in answers)
    )


def _is_text_and_start(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def _answers(answers: Sequence[str | tuple[str, int]], context: str) -> tuple[Answer, ...]:
    return tuple(
        Answer(answer, context.index(answer)) if isinstance(answer, str) else Answer(*answer)
        for answer in answers
    )
