"""Questions on passages and the alignment of their answers. Standard library only."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

NUM_SPECIAL_TOKENS = 3
"""Special tokens of a question with a passage: [CLS] question [SEP] passage [SEP]."""

UNKNOWN_START = -1
_MAX_SHOWN_CHARACTERS = 60
_NEAR = 32  # characters between an answer and the position given, such as one counted in bytes


@dataclasses.dataclass(frozen=True)
class Answer:
    """A span of a passage: `context[start : start + len(text)]`, in characters.

    Attributes:
      text: The answer.
      start: Position of its first character; `UNKNOWN_START` before it is aligned, if its source
        does not give one.
    """

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
      trimmed: One description per answer that lost the white space around it.
      moved: One description per answer whose position was corrected.
      dropped_answers: One description per answer that was dropped.
      dropped_questions: Names of the questions that had answers, none of them usable.
    """

    questions: tuple[Question, ...]
    trimmed: tuple[str, ...]
    moved: tuple[str, ...]
    dropped_answers: tuple[str, ...]
    dropped_questions: tuple[str, ...]


def align_answers(questions: Sequence[Question]) -> AlignedQuestions:
    """Correct or drop the answers that are not in the passage at the position given.

    White space around an answer is removed. An answer that is elsewhere is moved to its nearest
    occurrence, if that is near or the only one; any other is dropped. A question that loses all its
    answers is dropped too: it must not become an unanswerable one.
    """
    kept: list[Question] = []
    trimmed: list[str] = []
    moved: list[str] = []
    dropped_answers: list[str] = []
    dropped_questions: list[str] = []
    for question in questions:
        answers = []
        for answer in question.answers:
            text = answer.text.strip()
            lead = len(answer.text) - len(answer.text.lstrip())
            start = answer.start + lead if answer.start >= 0 else UNKNOWN_START
            aligned = _aligned(text, start, question.context)
            shown = answer.text[:_MAX_SHOWN_CHARACTERS]
            description = f"{question.name}: {shown!r} at {answer.start}"
            if aligned is None:
                dropped_answers.append(description)
                continue
            answers.append(aligned)
            if aligned.start != start:
                moved.append(description)
            elif text != answer.text:
                trimmed.append(description)
        if question.answers and not answers:
            dropped_questions.append(question.name)
        else:
            kept.append(dataclasses.replace(question, answers=tuple(answers)))
    return AlignedQuestions(
        questions=tuple(kept),
        trimmed=tuple(trimmed),
        moved=tuple(moved),
        dropped_answers=tuple(dropped_answers),
        dropped_questions=tuple(dropped_questions),
    )


def unique_questions(
    questions: Sequence[Question],
) -> tuple[list[Question], int, list[str]]:
    """Return questions without repetitions, renamed where several have one name.

    Questions with the same name, text and passage are one, with the answers of all.

    Returns:
      (questions, number of repetitions, one description per renamed question).
    """
    merged: dict[tuple[str, str, str], Question] = {}
    for question in questions:
        key = (question.name, question.question, question.context)
        first = merged.setdefault(key, question)
        if first is not question:
            new = [answer for answer in question.answers if answer not in first.answers]
            merged[key] = dataclasses.replace(first, answers=(*first.answers, *new))
    taken = {question.name for question in merged.values()}
    uses: Counter[str] = Counter()
    renamed: list[str] = []
    unique = []
    for question in merged.values():
        name = question.name
        uses[name] += 1
        if uses[name] > 1:
            while (name := f"{question.name}#{uses[question.name]}") in taken:
                uses[question.name] += 1
            renamed.append(f"{question.name!r} is now {name!r}")
            taken.add(name)
        unique.append(dataclasses.replace(question, name=name))
    return unique, len(questions) - len(merged), renamed


def find_unique(text: str, context: str) -> int | None:
    """Return where a text occurs in a passage, or None unless it occurs exactly once."""
    first = context.find(text)
    return first if text.strip() and first >= 0 and first == context.rfind(text) else None


def _aligned(text: str, start: int, context: str) -> Answer | None:
    """Return an answer at its position in the passage, or None if there is no certain one.

    Args:
      text: The answer, without white space around it.
      start: The position given, from 0; or `UNKNOWN_START`.
      context: The passage.
    """
    if not text:
        return None
    if start >= 0 and context.startswith(text, start):
        return Answer(text, start)
    unique = find_unique(text, context)
    if unique is not None:
        return Answer(text, unique)
    if not 0 <= start <= len(context):
        return None
    # White space and capitals may differ from those of the passage, which count.
    loose = r"\s+".join(map(re.escape, text.split()))
    return _nearest(re.escape(text), start, context) or _nearest(loose, start, context)


def _nearest(pattern: str, start: int, context: str) -> Answer | None:
    """Return the nearest match of a pattern near a position, whole words if there are any."""
    from_ = max(0, start - _NEAR)
    matches = [
        match
        for match in re.compile(pattern, re.IGNORECASE).finditer(context, from_)
        if abs(match.start() - start) <= _NEAR
    ]

    def cost(match: re.Match[str]) -> tuple[bool, int]:
        around = context[max(0, match.start() - 1) : match.end() + 1]
        is_whole = re.fullmatch(rf"\W?{re.escape(match[0])}\W?", around) is not None
        return not is_whole, abs(match.start() - start)

    return (
        Answer(found[0], found.start()) if (found := min(matches, key=cost, default=None)) else None
    )
