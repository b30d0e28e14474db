"""Questions on passages, and answers that stand where they are said to. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Answer:
    """A stretch of a passage: `context[start : start + len(text)]`, counted in characters."""

    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class Question:
    """A question and what answers it.

    Attributes:
      name: Its id in the file.
      context: The passage.
      question: In words.
      answers: All that count as right; none where the passage does not say (version 2.0).
      article: What the passage is a part of; "" where that is not known.
    """

    name: str
    context: str
    question: str
    answers: tuple[Answer, ...]
    article: str = ""


@dataclasses.dataclass(frozen=True)
class Checked:
    """Questions all of whose answers stand in the passage where they are said to.

    Attributes:
      questions: Those that can be used.
      moved: The answers, in words, that stood elsewhere and were moved there.
      dropped: Those that were left out.
      left_out: The names of questions that had answers, and none that could be used.
    """

    questions: tuple[Question, ...]
    moved: tuple[str, ...]
    dropped: tuple[str, ...]
    left_out: tuple[str, ...]


def checked(questions: Sequence[Question]) -> Checked:
    """Returns questions with their sound answers.

    An answer whose text stands once in the passage is moved there; another one is left out. A
    question that loses all its answers is left out too: it is not one that has none.
    """
    kept, moved, dropped, left_out = [], [], [], []
    for question in questions:
        answers = []
        for answer in question.answers:
            place = _place(answer, question.context)
            if place != answer.start:
                said = f"{question.name}: {answer.text[:60]!r} at {answer.start}"
                (dropped if place is None else moved).append(said)
            if place is not None:
                answers.append(Answer(answer.text, place))
        if question.answers and not answers:
            left_out.append(question.name)
        else:
            kept.append(dataclasses.replace(question, answers=tuple(answers)))
    return Checked(tuple(kept), tuple(moved), tuple(dropped), tuple(left_out))


def only_place(text: str, context: str) -> int | None:
    """Returns where a text stands in a passage; None if nowhere, or at several places."""
    first = context.find(text)
    return first if text.strip() and first >= 0 and first == context.rfind(text) else None


def _place(answer: Answer, context: str) -> int | None:
    """Returns where an answer stands, or None if that cannot be said."""
    said = context[max(0, answer.start) :][: len(answer.text)]
    if answer.start >= 0 and said == answer.text and said.strip():
        return answer.start
    return only_place(answer.text, context)
