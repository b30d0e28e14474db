"""Questions on passages and the alignment of their answers. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

NUM_SPECIAL_TOKENS = 3
"""Special tokens of a question with a passage: [CLS] question [SEP] passage [SEP]."""

_MAX_SHOWN_CHARACTERS = 60


@dataclasses.dataclass(frozen=True)
class Answer:
    """A span of a passage: `context[start : start + len(text)]`, in characters."""

    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class Question:
    """A question on a passage, with its answers.

    Attributes:
      name: Its id in the source.
      context: The passage.
      question: The text of the question.
      answers: All answers that count as correct; empty where the passage has none (SQuAD 2.0).
      article: The article that the passage is from; "" if unknown.
    """

    name: str
    context: str
    question: str
    answers: tuple[Answer, ...]
    article: str = ""


@dataclasses.dataclass(frozen=True)
class AlignedQuestions:
    """Questions whose answers all are in the passage at the position given.

    Attributes:
      questions: The usable questions.
      moved: One description per answer whose position was corrected.
      dropped_answers: One description per answer that was dropped.
      dropped_questions: Names of the questions that had answers, none of them usable.
    """

    questions: tuple[Question, ...]
    moved: tuple[str, ...]
    dropped_answers: tuple[str, ...]
    dropped_questions: tuple[str, ...]


def align_answers(questions: Sequence[Question]) -> AlignedQuestions:
    """Correct or drop the answers that are not in the passage at the position given.

    An answer whose text occurs exactly once in the passage is moved there; any other is dropped. A
    question that loses all its answers is dropped too: it must not become an unanswerable one.
    """
    kept: list[Question] = []
    moved: list[str] = []
    dropped_answers: list[str] = []
    dropped_questions: list[str] = []
    for question in questions:
        answers = []
        for answer in question.answers:
            start = _aligned_start(answer, question.context)
            if start != answer.start:
                shown = answer.text[:_MAX_SHOWN_CHARACTERS]
                description = f"{question.name}: {shown!r} at {answer.start}"
                (dropped_answers if start is None else moved).append(description)
            if start is not None:
                answers.append(Answer(answer.text, start))
        if question.answers and not answers:
            dropped_questions.append(question.name)
        else:
            kept.append(dataclasses.replace(question, answers=tuple(answers)))
    return AlignedQuestions(
        questions=tuple(kept),
        moved=tuple(moved),
        dropped_answers=tuple(dropped_answers),
        dropped_questions=tuple(dropped_questions),
    )


def find_unique(text: str, context: str) -> int | None:
    """Return where a text occurs in a passage, or None unless it occurs exactly once."""
    first = context.find(text)
    return first if text.strip() and first >= 0 and first == context.rfind(text) else None


def _aligned_start(answer: Answer, context: str) -> int | None:
    """Return the position of an answer in the passage, or None if there is no unique one."""
    span = context[max(0, answer.start) :][: len(answer.text)]
    if answer.start >= 0 and span == answer.text and span.strip():
        return answer.start
    return find_unique(answer.text, context)
