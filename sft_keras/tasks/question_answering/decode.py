"""Span decoding: from start and end logits of sliding windows to one answer per question.

The score of a span is the sum of the logits of its first and its last token. A span is scored only
in the window that shows the most context around its first token. The score of "no answer" is that
of [CLS], in the window where it is lowest. Both as in BERT's `run_squad.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sft_keras.tasks.question_answering.examples import Question
from sft_keras.tasks.question_answering.preprocess import Window
from sft_keras.tasks.question_answering.windows import Windows, is_max_context

_IMPOSSIBLE = float("-inf")  # the score of a span that may not be an answer
_WINDOWS_PER_CHUNK = 256


class Spans(NamedTuple):
    """The best answer span for each of n questions, with its confidence.

    Attributes:
      starts: int32 [n], the span's first character in the passage; -1 where no span is possible.
      ends: int32 [n], the character after its last one; -1 as above.
      null_score_diffs: float32 [n], score of "no answer" minus score of the span; infinite where
        no span is possible.
      probabilities: float32 [n, 2], of the span and of "no answer", by a softmax over the scores of
        all possible spans and of "no answer".
    """

    starts: tf.Tensor
    ends: tf.Tensor
    null_score_diffs: tf.Tensor
    probabilities: tf.Tensor


@dataclasses.dataclass(frozen=True)
class PredictedAnswers:
    """The answers of a model to n questions.

    Attributes:
      questions: The questions, [n].
      spans: Their best spans, as NumPy arrays.
    """

    questions: Sequence[Question]
    spans: Spans

    def texts(self, no_answer_threshold: float | None) -> list[str]:
        """Return the answers as they are in the passages, "" for none; see `is_answered`."""
        answered = is_answered(self.spans, no_answer_threshold)
        return [
            question.context[start:end] if has_answer else ""
            for question, start, end, has_answer in zip(
                self.questions, self.spans.starts, self.spans.ends, answered
            )
        ]

    def probabilities(self, no_answer_threshold: float | None) -> np.ndarray:
        """Return the probability of each answer, or of there being none, float32 [n]."""
        answered = is_answered(self.spans, no_answer_threshold)
        return np.where(answered, *self.spans.probabilities.T)


def decode_answers(
    logits: np.ndarray, windows: Sequence[Window], max_answer_length: int
) -> PredictedAnswers:
    """Return the answers to all questions of a split.

    Args:
      logits: float32 [w, positions, 2], start and end; values at padding are ignored.
      windows: The windows, [w], those of a question consecutive.
      max_answer_length: The largest number of tokens in an answer.
    """
    questions: list[Question] = []
    parts: list[Spans] = []
    for start, stop in _chunks(windows):
        chunk = windows[start:stop]
        spans = decode_spans(tf.constant(logits[start:stop]), _as_tensors(chunk), max_answer_length)
        parts.append(Spans(*(tensor.numpy() for tensor in spans)))
        questions += [chunk[index].question for index in _first_windows(chunk)]
    return PredictedAnswers(questions, Spans(*map(np.concatenate, zip(*parts))))


def decode_spans(logits: tf.Tensor, windows: Windows, max_answer_length: int) -> Spans:
    """Return the best spans of a batch of questions; works in a graph.

    Args:
      logits: float32 [w, positions, 2], start and end; values at padding are ignored.
      windows: The windows of these questions; `token_ids`, `lengths` and `is_truncated` are not
        used.
      max_answer_length: The largest number of tokens in an answer.
    """
    owners, num_questions = windows.question_indices, windows.char_starts.nrows()
    scores = _span_scores(logits, windows, max_answer_length)
    num_windows, num_positions = tf.shape(scores)[0], tf.shape(scores)[1]
    scores = tf.reshape(scores, [num_windows, num_positions * max_answer_length])
    window_best = tf.reduce_max(scores, axis=1)
    window_argmax = tf.argmax(scores, axis=1, output_type=tf.int32)

    best = tf.math.unsorted_segment_max(window_best, owners, num_questions)
    best = tf.where(best > tf.float32.min, best, _IMPOSSIBLE)  # the maximum of an empty segment
    # On ties the first window.
    is_best = window_best == tf.gather(best, owners)
    candidates = tf.where(is_best, tf.range(num_windows), num_windows - 1)
    window = tf.math.unsorted_segment_min(candidates, owners, num_questions)
    span = tf.gather(window_argmax, window)
    first_token = tf.gather(windows.passage_offsets - windows.passage_starts, window)
    first_token += span // max_answer_length
    has_span = best > _IMPOSSIBLE

    null_scores = tf.reduce_sum(logits[:, 0], axis=1)
    null = tf.math.unsorted_segment_min(null_scores, owners, num_questions)
    log_total = _log_sum_exp(tf.reduce_logsumexp(scores, axis=1), owners, num_questions, null)
    return Spans(
        starts=_token_characters(windows.char_starts, first_token, has_span),
        ends=_token_characters(windows.char_ends, first_token + span % max_answer_length, has_span),
        null_score_diffs=null - best,
        probabilities=tf.exp(tf.stack([best, null], axis=1) - log_total[:, tf.newaxis]),
    )


def is_answered(spans: Spans, no_answer_threshold: float | None) -> tf.Tensor:
    """Return for each question whether the model gives an answer, bool [n].

    Args:
      spans: The best spans, tensors or NumPy arrays.
      no_answer_threshold: The largest null score difference at which the span is the answer. None
        if every question has an answer: then every possible span is.
    """
    has_span = spans.starts >= 0
    if no_answer_threshold is None:
        return has_span
    return has_span & (spans.null_score_diffs <= no_answer_threshold)


def count_windows(windows: Sequence[Window], num_questions: int) -> int:
    """Return the number of windows of the first `num_questions` questions."""
    boundaries = [*_first_windows(windows), len(windows)]
    return boundaries[min(num_questions, len(boundaries) - 1)]


def _span_scores(logits: tf.Tensor, windows: Windows, max_answer_length: int) -> tf.Tensor:
    """Return the score of each span, float32 [w, positions, max_answer_length].

    The axes are the window, the position of the first token, and the number of further tokens.
    """
    num_positions = tf.shape(logits)[1]
    token = tf.range(num_positions)[tf.newaxis] - windows.passage_starts[:, tf.newaxis]
    in_passage = (token >= 0) & (token < windows.passage_lengths[:, tf.newaxis])
    max_context = is_max_context(
        windows.question_indices, windows.passage_offsets, windows.passage_lengths
    ).to_tensor()
    max_context = tf.pad(max_context, [[0, 0], [0, 1]])  # in case no window has any passage token
    token = tf.clip_by_value(token, 0, tf.shape(max_context)[1] - 1)
    may_start = in_passage & tf.gather(max_context, token, batch_dims=1)

    start = tf.where(may_start, logits[..., 0], _IMPOSSIBLE)
    end = tf.where(in_passage, logits[..., 1], _IMPOSSIBLE)
    end = tf.pad(end, [[0, 0], [0, max_answer_length - 1]], constant_values=_IMPOSSIBLE)
    last = tf.range(num_positions)[:, tf.newaxis] + tf.range(max_answer_length)
    return start[..., tf.newaxis] + tf.gather(end, last, axis=1)


def _log_sum_exp(
    window_sums: tf.Tensor, owners: tf.Tensor, num_questions: tf.Tensor, null: tf.Tensor
) -> tf.Tensor:
    """Return the log-sum-exp of all scores of each question, float32 [n].

    Args:
      window_sums: float32 [w], the log-sum-exp of the span scores of each window.
      owners: int32 [w], the question of each window.
      num_questions: n.
      null: float32 [n], the score of "no answer".
    """
    window_max = tf.math.unsorted_segment_max(window_sums, owners, num_questions)
    highest = tf.maximum(window_max, null)
    shifted = tf.exp(window_sums - tf.gather(highest, owners))
    sums = tf.math.unsorted_segment_sum(shifted, owners, num_questions)
    return highest + tf.math.log(sums + tf.exp(null - highest))


def _token_characters(
    characters: tf.RaggedTensor, token: tf.Tensor, has_token: tf.Tensor
) -> tf.Tensor:
    """Return the character of one token per passage, int32 [n]; -1 where there is no token.

    Args:
      characters: int32 [n, (tokens)], the character of every token of each passage.
      token: int32 [n].
      has_token: bool [n].
    """
    row_starts = tf.cast(characters.row_starts(), tf.int32)
    flat_indices = tf.where(has_token, row_starts + token, 0)
    # Padded, because all passages may be without tokens.
    padded = tf.concat([characters.flat_values, [-1]], axis=0)
    return tf.where(has_token, tf.gather(padded, flat_indices), -1)


def _first_windows(windows: Sequence[Window]) -> list[int]:
    """Return the index of the first window of each question."""
    return [
        index
        for index, window in enumerate(windows)
        if index == 0 or window.question.name != windows[index - 1].question.name
    ]


def _chunks(windows: Sequence[Window]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of chunks of windows, each with all windows of its questions."""
    start = 0
    boundaries = [*_first_windows(windows), len(windows)]
    for stop, following in zip(boundaries[1:], [*boundaries[2:], None]):
        if following is None or following - start > _WINDOWS_PER_CHUNK:
            yield start, stop
            start = stop


def _as_tensors(windows: Sequence[Window]) -> Windows:
    """Return windows as tensors for `decode_spans`, their questions numbered from 0."""
    first_windows = _first_windows(windows)
    passages = [windows[index].passage for index in first_windows]
    row_lengths = tf.constant([len(passage.char_starts) for passage in passages], tf.int64)
    question_indices = np.searchsorted(first_windows, np.arange(len(windows)), side="right") - 1

    def ragged(rows: list[np.ndarray]) -> tf.RaggedTensor:
        flat = tf.constant(np.concatenate(rows), tf.int32)
        return tf.RaggedTensor.from_row_lengths(flat, row_lengths)

    return Windows(
        question_indices=tf.constant(question_indices, tf.int32),
        token_ids=None,
        passage_starts=tf.constant([window.passage_start for window in windows], tf.int32),
        passage_offsets=tf.constant([window.passage_offset for window in windows], tf.int32),
        passage_lengths=tf.constant([window.passage_length for window in windows], tf.int32),
        char_starts=ragged([passage.char_starts for passage in passages]),
        char_ends=ragged([passage.char_ends for passage in passages]),
        lengths=None,
        is_truncated=None,
    )
