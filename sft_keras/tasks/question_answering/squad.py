"""Reader of SQuAD's JSON files, versions 1.1 and 2.0. Does not import TensorFlow.

Sources: Rajpurkar et al. 2016, arXiv:1606.05250 (1.1), and 2018, arXiv:1806.03822 (2.0).
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
    """Read a file, or a folder with one file per split such as train-v2.0.json.

    Args:
      path: Path of the file, whose questions all are the "train" split, or of the folder.

    Returns:
      {split: questions}; their answers are not verified, see `align_answers`.

    Raises:
      DataError: If the path does not exist or a file is not in SQuAD's format.
    """
    files = find_split_files(
        f"squad:{path}", _find_files, "a file for training, called train*.json"
    )
    return {split: _read_file(file) for split, file in files.items()}


def _find_files(folder: Path) -> dict[str, Path]:
    by_first_word = {
        parse_split_name(re.split("[-_.]", file.name)[0]): file
        for file in sorted(folder.glob("*.json"))
    }
    return {split: file for split, file in by_first_word.items() if split is not None}


def _read_file(file: Path) -> list[Question]:
    try:
        content = parse_json(file.read_text(encoding="utf-8-sig"))
        questions = list(_iter_questions(content["data"]))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file} must be a JSON file in UTF-8. It cannot be parsed: {error}."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} must be in SQuAD's format, with the keys data, paragraphs, context, qas, id, "
            f"question, answers, text and answer_start. It is not: {type(error).__name__} {error}."
        ) from error
    counts = Counter(question.name for question in questions)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DataError(
            f"{file} must have a unique id per question. {len(repeated)} ids occur more than once: "
            f"{preview(repeated)}."
        )
    return questions


def _iter_questions(articles: list[dict[str, Any]]) -> Iterator[Question]:
    for number, article in enumerate(articles):
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                answers = [] if entry.get("is_impossible") else entry["answers"]
                yield Question(
                    name=str(entry["id"]),
                    context=_require_text(paragraph["context"]),
                    question=entry["question"].strip(),
                    answers=tuple(
                        # `operator.index`: a start that is not an integer is a fault of the file.
                        Answer(
                            _require_text(answer["text"]), operator.index(answer["answer_start"])
                        )
                        for answer in answers
                    ),
                    article=str(article.get("title") or f"article {number}"),
                )


def _require_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, received {value!r}")
    return value
