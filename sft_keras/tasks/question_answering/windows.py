"""A question and its passage as rows of tokens: several, overlapping, where the passage is long.

Source: Devlin et al. 2019, arXiv:1810.04805, and its `run_squad.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.encoder import TextEncoder, first_tokens

AROUND = 3
"""Special tokens of a window: [CLS] question [SEP] passage [SEP]."""


class Windows(NamedTuple):
    """The windows of n questions; those of a question follow one another.

    Attributes:
      owners: int32 [w], the question of each window, ascending.
      ids: int32 [w, (tokens)], ragged.
      firsts: int32 [w], the place of the passage's first token in the row.
      offsets: int32 [w], which token of the passage that is.
      counts: int32 [w], how many tokens of the passage there are.
      starts: int32 [n, (passage tokens)], ragged; where a token starts in the passage, in
        characters.
      ends: The same for where it ends.
      lengths: int32 [n], how many tokens question and passage have together, special ones included
        and nothing cut off.
      is_cut: bool [n], whether the end of the question was cut off.
    """

    owners: tf.Tensor
    ids: tf.RaggedTensor
    firsts: tf.Tensor
    offsets: tf.Tensor
    counts: tf.Tensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor
    lengths: tf.Tensor
    is_cut: tf.Tensor


def windows(
    encoder: TextEncoder,
    questions: tf.Tensor,
    contexts: tf.Tensor,
    *,
    doc_stride: int,
    max_question_length: int,
) -> Windows:
    """Returns the windows of questions on passages; works in a graph.

    Args:
      encoder: One that `has_offsets`.
      questions: string [n], UTF-8.
      contexts: string [n], their passages.
      doc_stride: How many tokens of the passage after one window the next begins.
      max_question_length: The most tokens of a question; the end of a longer one is cut off.
    """
    asked = encoder.pieces(questions).ids
    different, which = tf.unique(contexts)  # many questions are on one passage
    passage, starts, ends = (tf.gather(each, which) for each in encoder.pieces(different))
    asked_sizes = tf.cast(asked.row_lengths(), tf.int32)
    sizes = tf.cast(passage.row_lengths(), tf.int32)
    kept = tf.minimum(asked_sizes, max_question_length)
    room = encoder.sequence_length - AROUND - kept
    further = -(-tf.maximum(0, sizes - room) // doc_stride)
    owners = tf.repeat(tf.range(tf.size(sizes)), 1 + further)
    before = tf.cumsum(1 + further, exclusive=True)
    offsets = (tf.range(tf.size(owners)) - tf.gather(before, owners)) * doc_stride
    counts = tf.minimum(tf.gather(room, owners), tf.gather(sizes, owners) - offsets)
    begins = tf.gather(tf.cast(passage.row_starts(), tf.int32), owners) + offsets
    places = tf.ragged.range(begins, begins + counts)
    parts = places.with_flat_values(tf.gather(passage.flat_values, places.flat_values))
    ids, firsts = encoder.pack(tf.gather(first_tokens(asked, kept), owners), parts)
    return Windows(
        owners=owners,
        ids=ids,
        firsts=firsts,
        offsets=offsets,
        counts=counts,
        starts=starts,
        ends=ends,
        lengths=AROUND + asked_sizes + sizes,
        is_cut=kept < asked_sizes,
    )


def has_most_context(owners: tf.Tensor, offsets: tf.Tensor, counts: tf.Tensor) -> tf.RaggedTensor:
    """Returns for each token of each window whether no other window shows more on both its sides.

    Of a passage's token exactly one window says so: that with the most context on the side where
    it has less; of equals the longest, then the first. See `Windows` for the arguments.

    Returns:
      bool [w, (counts)], ragged.
    """
    place = tf.ragged.range(counts)
    window, left = tf.cast(place.value_rowids(), tf.int32), place.flat_values
    length = tf.gather(counts, window)
    # As BERT has it: min(left, right) + 0.01 * length, here in whole numbers.
    context = 100 * tf.minimum(left, length - 1 - left) + length
    longest = tf.cast(tf.reduce_max(offsets + counts), tf.int64)
    token = tf.cast(tf.gather(offsets, window) + left, tf.int64)
    token += longest * tf.cast(tf.gather(owners, window), tf.int64)
    tokens, which = tf.unique(token)
    most = tf.math.unsorted_segment_max(context, which, tf.size(tokens))
    is_most = context == tf.gather(most, which)
    candidates = tf.where(is_most, window, tf.int32.max)
    first = tf.math.unsorted_segment_min(candidates, which, tf.size(tokens))
    return place.with_flat_values(is_most & (window == tf.gather(first, which)))
