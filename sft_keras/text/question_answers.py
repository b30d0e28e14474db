"""The answers that a model gives to the questions of a split, joined from those to windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.data.questions import Question
from sft_keras.text.question_preparing import Window
from sft_keras.text.spans import Spans, best_spans, given
from sft_keras.text.windows import Windows

_WINDOWS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class QuestionAnswers:
    """What a model answers.

    Attributes:
      questions: [n].
      spans: The best answers to them; NumPy arrays.
    """

    questions: Sequence[Question]
    spans: Spans

    def texts(self, no_answer_threshold: float | None) -> list[str]:
        """Returns the answers as they stand in the passages, "" for none; see `given`."""
        gives = given(self.spans, no_answer_threshold)
        return [
            question.context[start:end] if gives_any else ""
            for question, start, end, gives_any in zip(
                self.questions, self.spans.starts, self.spans.ends, gives
            )
        ]

    def probabilities(self, no_answer_threshold: float | None) -> np.ndarray:
        """Returns how probable what is answered is, float32 [n]; see `given`."""
        gives = given(self.spans, no_answer_threshold)
        return np.where(gives, *self.spans.probabilities.T)


def question_answers(
    logits: np.ndarray, details: Sequence[Window], max_answer_length: int
) -> QuestionAnswers:
    """Returns the answers to the questions of some windows, those of each following one another.

    Args:
      logits: float32 [w, places, 2]; what stands at padding is not looked at.
      details: The windows, [w].
      max_answer_length: The most tokens of an answer.
    """
    questions: list[Question] = []
    parts: list[Spans] = []
    for first, last in _chunks(details):
        chosen = details[first:last]
        spans = best_spans(tf.constant(logits[first:last]), _windows(chosen), max_answer_length)
        parts.append(Spans(*(each.numpy() for each in spans)))
        questions += [chosen[place].question for place in _begins(chosen)]
    return QuestionAnswers(questions, Spans(*map(np.concatenate, zip(*parts))))


def question_count(details: Sequence[Window], questions: int) -> int:
    """Returns how many windows the first so many questions have."""
    begins = [*_begins(details), len(details)]
    return begins[min(questions, len(begins) - 1)]


def _begins(details: Sequence[Window]) -> list[int]:
    """Returns where the windows of another question begin."""
    return [
        place
        for place, window in enumerate(details)
        if place == 0 or window.question.name != details[place - 1].question.name
    ]


def _chunks(details: Sequence[Window]) -> Iterator[tuple[int, int]]:
    """Yields (first, behind the last) of windows of whole questions, some hundred each."""
    first = 0
    begins = [*_begins(details), len(details)]
    for place, following in zip(begins[1:], [*begins[2:], None]):
        if following is None or following - first > _WINDOWS_AT_ONCE:
            yield first, place
            first = place


def _windows(details: Sequence[Window]) -> Windows:
    """Returns windows as tensors, numbered anew, without what is only read to compute logits."""
    begins = _begins(details)
    own = [details[place].passage for place in begins]
    owners = np.searchsorted(begins, np.arange(len(details)), side="right") - 1
    sizes = [len(passage.starts) for passage in own]

    def by_passage(values: list[np.ndarray]) -> tf.RaggedTensor:
        flat = tf.constant(np.concatenate(values), tf.int32)
        return tf.RaggedTensor.from_row_lengths(flat, tf.constant(sizes, tf.int64))

    numbers = {
        f"{name}s": tf.constant([getattr(window, name) for window in details], tf.int32)
        for name in ("first", "offset", "count")
    }
    return Windows(
        owners=tf.constant(owners, tf.int32),
        ids=None,
        starts=by_passage([passage.starts for passage in own]),
        ends=by_passage([passage.ends for passage in own]),
        lengths=None,
        is_cut=None,
        **numbers,
    )
