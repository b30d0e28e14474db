"""Sources of questions: SQuAD files, in-memory lists and synthetic questions."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import Listing, Part, preview
from sft_keras.data.streams import indexed_stream
from sft_keras.recipe.data import Data
from sft_keras.tasks.question_answering.examples import (
    AlignedQuestions,
    Answer,
    Question,
    align_answers,
)
from sft_keras.tasks.question_answering.in_memory import Questions
from sft_keras.tasks.question_answering.squad import ReadQuestions, read_squad

CLASS_NAMES = ("answer", "no answer")
"""The classes of a source in which some questions have no answer."""

_MAX_SHOWN = 5
_MIN_SYNTHETIC_PASSAGES = 6
_WORDS_PER_PASSAGE = 40
_QUESTIONS_PER_PASSAGE = 2


def list_questions(data: Data, seed: int) -> Listing:
    """List the questions of a source, with their answers aligned to the passages.

    When splits are made, the questions of one article stay together, or those of one passage if the
    source has only one article. The facts count dropped questions; their notes count the corrected
    answers.

    Args:
      data: The `data` section of the recipe.
      seed: Seed of synthetic questions.

    Raises:
      DataError: If the source is missing or does not hold questions.
    """
    read = _read(data, seed)
    aligned = {split: align_answers(questions) for split, questions in read.by_split.items()}
    if read.by_split["train"] and not aligned["train"].questions:
        raise DataError(
            f"No answer of {data.source!r} occurs in its passage, at answer_start or elsewhere. "
            f"Received: {preview(aligned['train'].dropped_answers, _MAX_SHOWN)}."
        )
    has_unanswerable = any(
        not question.answers for split in aligned.values() for question in split.questions
    )
    return Listing(
        class_names=CLASS_NAMES if has_unanswerable else (),
        parts={name: _part(split.questions, has_unanswerable) for name, split in aligned.items()},
        facts={
            "dropped": {**read.dropped, **_dropped(aligned)},
            "notes": [*read.notes, *_alignment_notes(aligned)],
        },
    )


def question_stream(
    questions: Sequence[Question], positions: np.ndarray, seed: tf.Tensor | None
) -> tf.data.Dataset:
    """Return the questions at `positions`; see `Part.stream`.

    Elements are {"index", "question": string, "context": string, "answers": string [answers],
    "starts": int32 [answers]}.
    """
    chosen = [questions[position] for position in positions]
    # A passage that several questions share is held once.
    passage_numbers: dict[str, int] = {}
    passage_indices = tf.constant(
        [passage_numbers.setdefault(question.context, len(passage_numbers)) for question in chosen],
        tf.int32,
    )
    passages = tf.constant(list(passage_numbers), tf.string)
    question_texts = tf.constant([question.question for question in chosen], tf.string)
    answers = [answer for question in chosen for answer in question.answers]
    answer_texts = tf.constant([answer.text for answer in answers], tf.string)
    answer_starts = tf.constant([answer.start for answer in answers], tf.int32)
    answer_splits = tf.constant(
        np.cumsum([0, *(len(question.answers) for question in chosen)]), tf.int64
    )

    def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
        own_answers = slice(answer_splits[index], answer_splits[index + 1])
        return {
            "question": question_texts[index],
            "context": passages[passage_indices[index]],
            "answers": answer_texts[own_answers],
            "starts": answer_starts[own_answers],
        }

    return indexed_stream(len(chosen), seed, read)


def _read(data: Data, seed: int) -> ReadQuestions:
    """Read a source without aligning the answers."""
    source = data.source
    if isinstance(source, Questions):
        faults = source.faults()
        if faults:
            raise DataError(numbered(f"The questions cannot be used: {source!r}.", faults))
        return ReadQuestions(source.as_questions())
    kind, _, name = str(source).partition(":")
    if kind == "squad":
        return read_squad(name, data.on_fault == "drop", data.encoding)
    return ReadQuestions(_synthetic(name, seed))


def _part(questions: Sequence[Question], has_unanswerable: bool) -> Part:
    articles = [question.article for question in questions]
    has_several_articles = len(set(articles)) > 1
    passages = [question.context for question in questions]
    return Part(
        ids=tuple(question.name for question in questions),
        labels=np.array([not question.answers for question in questions], np.int64),
        stream=functools.partial(question_stream, questions),
        occurrences=None if has_unanswerable else np.zeros((len(questions), 0), np.int64),
        groups=np.array(articles if has_several_articles else passages, object),
        group_noun="articles" if has_several_articles else "passages",
    )


def _dropped(aligned: Mapping[str, AlignedQuestions]) -> dict[str, int]:
    return {
        "answers that are not in the passage": sum(
            len(split.dropped_answers) for split in aligned.values()
        ),
        "questions without another answer": sum(
            len(split.dropped_questions) for split in aligned.values()
        ),
    }


def _alignment_notes(aligned: Mapping[str, AlignedQuestions]) -> Iterator[str]:
    """Yield one sentence with examples per kind of correction."""
    total = sum(len(split.questions) + len(split.dropped_questions) for split in aligned.values())
    sentences = {
        "trimmed": "answers had white space around them, which was removed",
        "moved": "answers are not in the passage at answer_start (in characters, from 0) and were "
        "moved to their nearest or only occurrence",
        "dropped_answers": "answers are not in the passage, or several times and none near "
        "answer_start, and were dropped",
        "dropped_questions": f"of {total:,} questions had no other answer and were dropped",
    }
    for name, sentence in sentences.items():
        descriptions = [text for split in aligned.values() for text in getattr(split, name)]
        if descriptions:
            yield f"{len(descriptions):,} {sentence}: {preview(descriptions, _MAX_SHOWN)}."


def _synthetic(num_passages: str, seed: int) -> dict[str, list[Question]]:
    """Make passages of random words; the answer to a word is the word after it.

    Every fourth question is about a word that is not in the passage.
    """
    if not num_passages.isdecimal() or int(num_passages) < _MIN_SYNTHETIC_PASSAGES:
        raise DataError(
            "`data.source` must be 'synthetic:PASSAGES' with a number of at least "
            f"{_MIN_SYNTHETIC_PASSAGES}. Received: 'synthetic:{num_passages}'."
        )
    rng = np.random.default_rng(seed)
    questions: list[Question] = []
    for _ in range(int(num_passages)):
        words = ["".join(rng.choice(list("nopqrstu"), 3)) for _ in range(_WORDS_PER_PASSAGE)]
        context = " ".join(words)
        word_indices = rng.choice(_WORDS_PER_PASSAGE - 1, _QUESTIONS_PER_PASSAGE, replace=False)
        for index in word_indices:
            number = len(questions)
            answers: tuple[Answer, ...] = (Answer(words[index + 1], 4 * (int(index) + 1)),)
            subject = words[index]
            if number % 4 == 3:
                subject, answers = "xyz", ()
            questions.append(Question(f"synthetic[{number}]", context, f"{subject} ?", answers))
    return {"train": questions}
