"""Questions on passages, from SQuAD's files, Python lists or made up."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import Listing, Part
from sft_keras.data.streams import indexed_stream
from sft_keras.recipe.data import Data
from sft_keras.tasks.question_answering.examples import Answer, Checked, Question, checked
from sft_keras.tasks.question_answering.in_memory import Questions
from sft_keras.tasks.question_answering.squad import read_squad

CLASS_NAMES = ("answer", "no answer")
"""Where some questions have none."""

_SHOWN = 5
_SYNTHETIC_WORDS = 40
_SYNTHETIC_QUESTIONS = 2  # a passage


def list_questions(data: Data, seed: int) -> Listing:
    """Lists the questions of a source; "dropped" and "mended" of its facts say what was wrong.

    Questions of one article stay together when splits are made, or of one passage, where the
    source has one article.

    Raises:
      DataError: If the source is not there or does not hold questions.
    """
    if isinstance(data.source, Questions):
        faults = data.source.faults()
        if faults:
            headline = f"The questions cannot be trained on: {data.source!r}."
            raise DataError(numbered(headline, faults))
        questions = data.source.as_questions()
    else:
        kind, _, name = data.source.partition(":")
        questions = read_squad(name) if kind == "squad" else _synthetic(name, seed)
    found = {split: checked(each) for split, each in questions.items()}
    has_unanswerable = any(not each.answers for one in found.values() for each in one.questions)
    return Listing(
        class_names=CLASS_NAMES if has_unanswerable else (),
        parts={split: _part(each.questions, has_unanswerable) for split, each in found.items()},
        facts=_said(found),
    )


def _part(questions: Sequence[Question], has_unanswerable: bool) -> Part:
    articles = [question.article for question in questions]
    is_by_article = len(set(articles)) > 1
    passages = [question.context for question in questions]
    return Part(
        ids=tuple(question.name for question in questions),
        labels=np.array([not question.answers for question in questions], np.int64),
        stream=functools.partial(question_stream, questions),
        occurrences=None if has_unanswerable else np.zeros((len(questions), 0), np.int64),
        groups=np.array(articles if is_by_article else passages, object),
        group_noun="articles" if is_by_article else "passages",
    )


def question_stream(
    questions: Sequence[Question], positions: np.ndarray, seed: tf.Tensor | None
) -> tf.data.Dataset:
    """Returns the questions at `positions`; see `Part.stream`.

    Elements are {"index", "question": string, "context": string, "answers": string [any number],
    "starts": int32 [as many]}.
    """
    chosen = [questions[position] for position in positions]
    # A passage that many questions are on is held once.
    numbers: dict[str, int] = {}
    passage_of = tf.constant(
        [numbers.setdefault(each.context, len(numbers)) for each in chosen], tf.int32
    )
    passages = tf.constant(list(numbers), tf.string)
    asked = tf.constant([each.question for each in chosen], tf.string)
    answers = [answer for each in chosen for answer in each.answers]
    texts = tf.constant([answer.text for answer in answers], tf.string)
    starts = tf.constant([answer.start for answer in answers], tf.int32)
    ends = tf.constant(np.cumsum([0, *(len(each.answers) for each in chosen)]), tf.int64)

    def question(index: tf.Tensor) -> dict[str, tf.Tensor]:
        own = slice(ends[index], ends[index + 1])
        return {
            "question": asked[index],
            "context": passages[passage_of[index]],
            "answers": texts[own],
            "starts": starts[own],
        }

    return indexed_stream(len(chosen), seed, question)


def _said(found: Mapping[str, Checked]) -> dict[str, Any]:
    """Returns what was wrong with answers as facts, and warns of it."""
    moved = [each for one in found.values() for each in one.moved]
    dropped = [each for one in found.values() for each in one.dropped]
    left_out = [each for one in found.values() for each in one.left_out]
    if moved or dropped:
        logging.warning(
            "%d answers do not stand in the passage where the source says, in characters from 0. "
            "%d stand at one other place and were moved there, %d were left out, and with them %d "
            "questions that had no other. The first: %s.",
            len(moved) + len(dropped),
            len(moved),
            len(dropped),
            len(left_out),
            "; ".join([*dropped, *moved][:_SHOWN]),
        )
    return {
        "dropped": {
            "answers that do not stand in the passage": len(dropped),
            "questions without another answer": len(left_out),
        },
        "mended": {"answers were moved to where their text stands": len(moved)},
    }


def _synthetic(passages: str, seed: int) -> dict[str, list[Question]]:
    """Makes passages of random letters, and questions that the word after another answers.

    Every fourth question is about a word that is not in the passage.
    """
    if not passages.isdecimal() or int(passages) < 6:
        raise DataError(
            "`data.source` must be 'synthetic:PASSAGES' with a number from 6. "
            f"Received: 'synthetic:{passages}'."
        )
    draw = np.random.default_rng(seed)
    questions: list[Question] = []
    for _ in range(int(passages)):
        words = ["".join(draw.choice(list("nopqrstu"), 3)) for _ in range(_SYNTHETIC_WORDS)]
        context = " ".join(words)
        for place in draw.choice(_SYNTHETIC_WORDS - 1, _SYNTHETIC_QUESTIONS, replace=False):
            number = len(questions)
            answers = (Answer(words[place + 1], 4 * (int(place) + 1)),)
            asked = words[place]
            if number % 4 == 3:
                asked, answers = "xyz", ()
            questions.append(Question(f"synthetic[{number}]", context, f"{asked} ?", answers))
    return {"train": questions}
