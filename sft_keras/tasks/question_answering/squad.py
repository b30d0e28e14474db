"""Questions on passages, in the JSON of SQuAD, versions 1.1 and 2.0. No TensorFlow.

Source: Rajpurkar et al. 2016, arXiv:1606.05250, and 2018, arXiv:1806.03822.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.listing import parse_split_name, preview
from sft_keras.data.split_files import find_split_files, parse_json
from sft_keras.tasks.question_answering.examples import Answer, Question


def read_squad(path: str) -> dict[str, list[Question]]:
    """Reads a file, or a folder with a file for each split, such as train-v2.0.json.

    Returns:
      {split: questions}, their answers where the file says they are, see `questions.checked`; of a
      file all are "train".

    Raises:
      DataError: If it is not there, or is no such JSON.
    """
    files = find_split_files(f"squad:{path}", _files, "a file for training, called train*.json")
    return {split: _questions(file) for split, file in files.items()}


def _files(folder: Path) -> dict[str, Path]:
    first_words = {
        parse_split_name(re.split("[-_.]", file.name)[0]): file
        for file in sorted(folder.glob("*.json"))
    }
    return {split: file for split, file in first_words.items() if split is not None}


def _questions(file: Path) -> list[Question]:
    try:
        content = parse_json(file.read_text(encoding="utf-8-sig"))
        questions = list(_listed(content["data"]))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file} must be a JSON file in UTF-8. It cannot be read: {error}."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} must be as SQuAD's files: data, paragraphs, context, qas, id, question, "
            f"answers, text, answer_start. It is not: {type(error).__name__} {error}."
        ) from error
    counts = Counter(question.name for question in questions)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DataError(
            f"{file} cannot be trained on. {len(repeated)} ids are there more than once: "
            f"{preview(repeated)}. Give each question an id of its own."
        )
    return questions


def _listed(articles: list[dict[str, Any]]) -> Iterator[Question]:
    for number, article in enumerate(articles):
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else asked["answers"]
                yield Question(
                    name=str(asked["id"]),
                    context=_text(paragraph["context"]),
                    question=asked["question"].strip(),
                    answers=tuple(
                        # A place that is no whole number is a fault of the file.
                        Answer(_text(each["text"]), operator.index(each["answer_start"]))
                        for each in answers
                    ),
                    article=str(article.get("title") or f"article {number}"),
                )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, received {value!r}")
    return value
