"""Sliding windows: a question with overlapping stretches of a long passage, as rows of tokens.

Source: Devlin et al. 2019, arXiv:1810.04805, and its `run_squad.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sft_keras.tasks.question_answering.examples import NUM_SPECIAL_TOKENS
from sft_keras.text.encoder import TextEncoder, first_tokens


class Windows(NamedTuple):
    """The w windows of n questions, those of a question consecutive and in passage order.

    Attributes:
      question_indices: int32 [w], ascending; the question of each window.
      token_ids: int32 [w, (tokens)], ragged.
      passage_starts: int32 [w], position in the row of the first passage token.
      passage_offsets: int32 [w], index in the passage of that token.
      passage_lengths: int32 [w], number of passage tokens in the window.
      char_starts: int32 [n, (passage tokens)], ragged; first character of each token.
      char_ends: int32 [n, (passage tokens)], ragged; the character after each token.
      lengths: int32 [n], tokens of question and passage with special tokens, nothing truncated.
      is_truncated: bool [n], whether the question was truncated.
    """

    question_indices: tf.Tensor
    token_ids: tf.RaggedTensor
    passage_starts: tf.Tensor
    passage_offsets: tf.Tensor
    passage_lengths: tf.Tensor
    char_starts: tf.RaggedTensor
    char_ends: tf.RaggedTensor
    lengths: tf.Tensor
    is_truncated: tf.Tensor


def sliding_windows(
    encoder: TextEncoder,
    questions: tf.Tensor,
    contexts: tf.Tensor,
    *,
    doc_stride: int,
    max_question_length: int,
) -> Windows:
    """Return the windows of questions on passages; works in a graph.

    Args:
      encoder: An encoder that `has_offsets`.
      questions: string [n], UTF-8.
      contexts: string [n], UTF-8, their passages.
      doc_stride: Number of passage tokens from the start of one window to that of the next.
      max_question_length: Longer questions are truncated to this many tokens.
    """
    question = encoder.pieces(questions).ids
    # Many questions share a passage: tokenize each passage once.
    unique_contexts, context_indices = tf.unique(contexts)
    passage, char_starts, char_ends = (
        tf.gather(ragged, context_indices) for ragged in encoder.pieces(unique_contexts)
    )
    question_sizes = tf.cast(question.row_lengths(), tf.int32)
    passage_sizes = tf.cast(passage.row_lengths(), tf.int32)
    kept_sizes = tf.minimum(question_sizes, max_question_length)
    room = encoder.sequence_length - NUM_SPECIAL_TOKENS - kept_sizes  # for the passage

    overflow = tf.maximum(0, passage_sizes - room)
    num_windows = 1 - (-overflow // doc_stride)  # 1 + ceil(overflow / doc_stride)
    question_indices = tf.repeat(tf.range(tf.size(passage_sizes)), num_windows)
    first_windows = tf.gather(tf.cumsum(num_windows, exclusive=True), question_indices)
    offsets = (tf.range(tf.size(question_indices)) - first_windows) * doc_stride
    passage_lengths = tf.minimum(
        tf.gather(room, question_indices), tf.gather(passage_sizes, question_indices) - offsets
    )

    row_starts = tf.cast(passage.row_starts(), tf.int32)
    stretch_starts = tf.gather(row_starts, question_indices) + offsets
    token_indices = tf.ragged.range(stretch_starts, stretch_starts + passage_lengths)
    stretches = token_indices.with_flat_values(
        tf.gather(passage.flat_values, token_indices.flat_values)
    )
    kept_questions = tf.gather(first_tokens(question, kept_sizes), question_indices)
    token_ids, passage_starts = encoder.pack(kept_questions, stretches)
    return Windows(
        question_indices=question_indices,
        token_ids=token_ids,
        passage_starts=passage_starts,
        passage_offsets=offsets,
        passage_lengths=passage_lengths,
        char_starts=char_starts,
        char_ends=char_ends,
        lengths=NUM_SPECIAL_TOKENS + question_sizes + passage_sizes,
        is_truncated=kept_sizes < question_sizes,
    )


def is_max_context(
    question_indices: tf.Tensor, passage_offsets: tf.Tensor, passage_lengths: tf.Tensor
) -> tf.RaggedTensor:
    """Return for each passage token of each window whether the window shows its most context.

    Of the windows that contain a token, exactly one is its maximum-context window: that with the
    most tokens on the side where it has fewer; on ties the longest, then the first. This is
    `_check_is_max_context` of BERT's `run_squad.py`.

    Args:
      question_indices: See `Windows`.
      passage_offsets: See `Windows`.
      passage_lengths: See `Windows`.

    Returns:
      bool [w, (passage tokens of the window)], ragged.
    """
    positions = tf.ragged.range(passage_lengths)
    window, left = tf.cast(positions.value_rowids(), tf.int32), positions.flat_values
    length = tf.gather(passage_lengths, window)
    # BERT's min(left, right) + 0.01 * length, in integers.
    context = 100 * tf.minimum(left, length - 1 - left) + length
    # A number for each token of each passage.
    longest = tf.cast(tf.reduce_max(passage_offsets + passage_lengths), tf.int64)
    token = tf.cast(tf.gather(passage_offsets, window) + left, tf.int64)
    token += longest * tf.cast(tf.gather(question_indices, window), tf.int64)
    unique_tokens, token_indices = tf.unique(token)

    num_tokens = tf.size(unique_tokens)
    max_context = tf.math.unsorted_segment_max(context, token_indices, num_tokens)
    is_max = context == tf.gather(max_context, token_indices)
    candidates = tf.where(is_max, window, tf.int32.max)
    first = tf.math.unsorted_segment_min(candidates, token_indices, num_tokens)
    return positions.with_flat_values(is_max & (window == tf.gather(first, token_indices)))
