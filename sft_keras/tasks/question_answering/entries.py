"""One question as SQuAD's files and Hugging Face's rows have it. Standard library only."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from sft_keras.tasks.question_answering.examples import UNKNOWN_START, Answer, Question

_IDS = ("id", "qid", "question_id", "_id")
_MAX_SHOWN = 80  # characters of a received value


class EntryError(ValueError):
    """A question cannot be read; the message names its field."""


def is_row(value: object) -> bool:
    """Return whether a value is a question with its passage, as in the rows of Hugging Face."""
    return isinstance(value, Mapping) and "question" in value and "context" in value


def entry_id(entry: Mapping[str, Any]) -> str | None:
    """Return the id of a question, or None if it has none."""
    values = (entry.get(name) for name in _IDS)
    value = next((value for value in values if value not in (None, "")), None)
    return None if value is None else str(value)


def parse_entry(entry: Mapping[str, Any], name: str, context: Any, article: str = "") -> Question:
    """Return a question; its answers are not verified, see `align_answers`.

    Args:
      entry: The fields "question", "answers" and optionally "is_impossible". Answers are a list of
        {"text", "answer_start"}, or {"text": list, "answer_start": list} as Hugging Face has them.
        Other fields, such as "plausible_answers", are ignored.
      name: The name of the question.
      context: The passage.
      article: The article that the passage is from.

    Raises:
      EntryError: If a field is missing or of another type.
    """
    question = _text(_field(entry, "question"), "question").strip()
    passage = _text(context, "context")
    if not question or not passage.strip():
        raise EntryError(f"{'context' if question else 'question'} must not be blank.")
    is_impossible = entry.get("is_impossible") in (True, "true", "True", 1)
    answers = () if is_impossible else tuple(_answers(_field(entry, "answers")))
    return Question(name, passage, question, answers, article)


def has_converted_start(entry: Mapping[str, Any]) -> bool:
    """Return whether the position of an answer of a valid entry is not a whole number."""
    try:
        pairs = list(_pairs(entry.get("answers")))
    except EntryError:
        return False
    return any(isinstance(start, str | float) for _, start, _ in pairs)


def _field(entry: Mapping[str, Any], name: str) -> Any:
    if name not in entry:
        keys = ", ".join(map(str, entry)) or "none"
        raise EntryError(f"{name} is missing. Received the fields: {keys[:_MAX_SHOWN]}.")
    return entry[name]


def _answers(value: Any) -> Iterator[Answer]:
    for text, start, path in _pairs(value):
        yield Answer(_text(text, f"{path}text"), _start(start, f"{path}answer_start"))


def _pairs(value: Any) -> Iterator[tuple[Any, Any, str]]:
    """Yield (text, start, path of the two) for each answer, whichever form the answers have."""
    if value is None:
        return
    if isinstance(value, Mapping) and not isinstance(value.get("text"), str):
        texts, starts = (_sequence(value, name) for name in ("text", "answer_start"))
        if starts and len(texts) != len(starts):
            raise EntryError(
                "answers must have as many texts as answer_starts. "
                f"Received: {len(texts)} texts, {len(starts)} answer_starts."
            )
        yield from (
            (text, start, f"answers[{index}].")
            for index, (text, start) in enumerate(zip(texts, starts or [None] * len(texts)))
        )
        return
    entries = [value] if isinstance(value, Mapping | str) else value
    if not hasattr(entries, "__iter__"):
        raise EntryError(f"answers must be a list. Received: {_shown(value)}.")
    for index, answer in enumerate(entries):
        path = f"answers[{index}]."
        if isinstance(answer, str):
            yield answer, None, path
        elif isinstance(answer, Mapping) and "text" in answer:
            yield answer["text"], answer.get("answer_start"), path
        else:
            raise EntryError(
                f"answers[{index}] must have the fields text and answer_start. "
                f"Received: {_shown(answer)}."
            )


def _sequence(value: Mapping[str, Any], name: str) -> list[Any]:
    items = value.get(name)
    if items is None:
        return []
    if isinstance(items, str) or not hasattr(items, "__iter__"):
        raise EntryError(f"answers.{name} must be a list. Received: {_shown(items)}.")
    return list(items)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise EntryError(f"{path} must be a text. Received: {_shown(value)}.")
    return value


def _start(value: Any, path: str) -> int:
    """Return a position; whole numbers written as text or with a decimal point are positions."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return UNKNOWN_START
    number: Any = None
    try:
        # `operator.index` takes whole numbers of any kind, NumPy's too, and nothing else.
        number = float(value) if isinstance(value, str | float) else operator.index(value)
        is_whole = not isinstance(value, bool) and number == int(number)
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole:
        raise EntryError(f"{path} must be a whole number. Received: {_shown(value)}.")
    return max(int(number), UNKNOWN_START)


def _shown(value: Any) -> str:
    return repr(value)[:_MAX_SHOWN]
