"""From the logits of windows to one answer for each question."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sft_keras.tasks.question_answering.examples import Question
from sft_keras.tasks.question_answering.preprocess import Window
from sft_keras.tasks.question_answering.windows import Windows, has_most_context

_NEVER = float("-inf")


class Spans(NamedTuple):
    """The best answer to each of n questions, and how sure the model is of it.

    Attributes:
      starts: int32 [n], its first character in the passage; -1 where there can be no answer.
      ends: int32 [n], the character behind its last one; -1 as above.
      margins: float32 [n], by how much the score of there being no answer is above that of this
        one; infinite where there can be none.
      probabilities: float32 [n, 2], of this answer and of there being none, among all stretches
        that could be answered and none.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    margins: tf.Tensor
    probabilities: tf.Tensor


def best_spans(logits: tf.Tensor, windows: Windows, max_answer_length: int) -> Spans:
    """Returns the best answers; works in a graph.

    The score of a stretch is the sum of its first token's logit and its last one's, in the window
    where the first has the most context. The score of there being none is that of [CLS], in the
    window where it is lowest, as in BERT's `run_squad.py`.

    Args:
      logits: float32 [w, places, 2], start and end; what stands at padding is not looked at.
      windows: Of these questions; `ids` are not looked at.
      max_answer_length: The most tokens of an answer.
    """
    owners, firsts, questions = windows.owners, windows.firsts, windows.starts.nrows()
    scores = _span_scores(logits, windows, max_answer_length)
    count, places = tf.shape(scores)[0], tf.shape(scores)[1]
    flat = tf.reshape(scores, [count, places * max_answer_length])
    own_best, own_place = tf.reduce_max(flat, axis=1), tf.argmax(flat, axis=1, output_type=tf.int32)
    best = tf.math.unsorted_segment_max(own_best, owners, questions)
    best = tf.where(best > tf.float32.min, best, _NEVER)  # the maximum of nothing is that number
    # Of equal ones the first.
    is_best = own_best == tf.gather(best, owners)
    numbers = tf.where(is_best, tf.range(count), count - 1)
    window = tf.math.unsorted_segment_min(numbers, owners, questions)
    place = tf.gather(own_place, window)
    token = tf.gather(windows.offsets - firsts, window) + place // max_answer_length
    exists = best > _NEVER
    null = tf.math.unsorted_segment_min(tf.reduce_sum(logits[:, 0], axis=1), owners, questions)
    total = _log_sum(tf.reduce_logsumexp(flat, axis=1), owners, questions, null)
    return Spans(
        starts=_characters(windows.starts, token, exists),
        ends=_characters(windows.ends, token + place % max_answer_length, exists),
        margins=null - best,
        probabilities=tf.exp(tf.stack([best, null], axis=1) - total[:, tf.newaxis]),
    )


def given(spans: Spans, no_answer_threshold: float | None) -> tf.Tensor:
    """Returns where the best answer is given and not none, bool [n]; also works on arrays.

    Args:
      spans: From `best_spans`.
      no_answer_threshold: The largest margin with which it is; None to give it wherever there is
        one, for questions that all have an answer.
    """
    exists = spans.starts >= 0
    if no_answer_threshold is None:
        return exists
    return exists & (spans.margins <= no_answer_threshold)


def _span_scores(logits: tf.Tensor, windows: Windows, max_answer_length: int) -> tf.Tensor:
    """Returns the scores by window, first token's place, and tokens after it: [w, places, most]."""
    places = tf.shape(logits)[1]
    token = tf.range(places)[tf.newaxis] - windows.firsts[:, tf.newaxis]
    counts = windows.counts[:, tf.newaxis]
    in_passage = (token >= 0) & (token < counts)
    most_context = has_most_context(windows.owners, windows.offsets, windows.counts).to_tensor()
    most_context = tf.pad(most_context, [[0, 0], [0, 1]])  # where no window shows any token
    own = tf.clip_by_value(token, 0, tf.shape(most_context)[1] - 1)
    may_start = in_passage & tf.gather(most_context, own, batch_dims=1)
    start = tf.where(may_start, logits[..., 0], _NEVER)
    end = tf.where(in_passage, logits[..., 1], _NEVER)
    end = tf.pad(end, [[0, 0], [0, max_answer_length - 1]], constant_values=_NEVER)
    last = tf.range(places)[:, tf.newaxis] + tf.range(max_answer_length)
    return start[..., tf.newaxis] + tf.gather(end, last, axis=1)


def _log_sum(own: tf.Tensor, owners: tf.Tensor, count: tf.Tensor, null: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of a question's summed exponentials, float [n], with `null` in them."""
    highest = tf.maximum(tf.math.unsorted_segment_max(own, owners, count), null)
    parts = tf.math.unsorted_segment_sum(tf.exp(own - tf.gather(highest, owners)), owners, count)
    return highest + tf.math.log(parts + tf.exp(null - highest))


def _characters(of_tokens: tf.RaggedTensor, token: tf.Tensor, exists: tf.Tensor) -> tf.Tensor:
    """Returns the character of a token of each passage; -1 where there is no such token."""
    begins = tf.cast(of_tokens.row_starts(), tf.int32)
    where = tf.where(exists, begins + token, 0)
    # There may be no token in any passage.
    padded = tf.concat([of_tokens.flat_values, [-1]], axis=0)
    return tf.where(exists, tf.gather(padded, where), -1)


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
