"""Questions on passages, in the JSON of SQuAD, versions 1.1 and 2.0. No TensorFlow.

Source: Rajpurkar et al. 2016, arXiv:1606.05250, and 2018, arXiv:1806.03822.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_keras.data.listing import shown, split_named
from sft_keras.data.split_files import split_files
from sft_keras.errors import DataError, numbered


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
    """

    name: str
    context: str
    question: str
    answers: tuple[Answer, ...]


def read_squad(path: str) -> dict[str, list[Question]]:
    """Reads a file, or a folder with a file for each split, such as train-v2.0.json.

    Returns:
      {split: questions}; of a file all are "train".

    Raises:
      DataError: If it is not there, is no such JSON, or answers do not stand where it says.
    """
    files = split_files(f"squad:{path}", _files, "a file for training, called train*.json")
    return {split: _questions(file) for split, file in files.items()}


def _files(folder: Path) -> dict[str, Path]:
    first_words = {
        split_named(re.split("[-_.]", file.name)[0]): file for file in sorted(folder.glob("*.json"))
    }
    return {split: file for split, file in first_words.items() if split is not None}


def _questions(file: Path) -> list[Question]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        questions = list(_listed(content["data"]))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{file} must be a JSON file in UTF-8. It cannot be read: {error}."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} must be as SQuAD's files: data, paragraphs, context, qas, id, question, "
            f"answers, text, answer_start. It is not: {type(error).__name__} {error}."
        ) from error
    wrong = [
        question.name
        for question in questions
        for answer in question.answers
        if question.context[answer.start : answer.start + len(answer.text)] != answer.text
    ]
    counts = Counter(question.name for question in questions)
    repeated = [name for name, count in counts.items() if count > 1]
    faults = []
    if wrong:
        faults.append(
            f"{len(wrong)} answers do not stand in the passage where `answer_start` says, in "
            f"characters from 0: {shown(wrong)}."
        )
    if repeated:
        faults.append(f"{len(repeated)} ids are there more than once: {shown(repeated)}.")
    if faults:
        raise DataError(numbered(f"{file} cannot be trained on.", faults))
    return questions


def _listed(articles: list[dict[str, Any]]) -> Iterator[Question]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else asked["answers"]
                yield Question(
                    name=str(asked["id"]),
                    context=paragraph["context"],
                    question=asked["question"].strip(),
                    answers=tuple(Answer(each["text"], each["answer_start"]) for each in answers),
                )
