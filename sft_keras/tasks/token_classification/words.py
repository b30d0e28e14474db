"""Word splitting with character offsets, in TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.characters import LETTER, LIMIT, SINGLE, SPACE, characters


class Words(NamedTuple):
    """The words of n texts.

    Attributes:
      words: string [n, (words)], ragged.
      starts: int32 [n, (words)], ragged; first character of each word.
      ends: int32 [n, (words)], ragged; the character after each word.
    """

    words: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


_IsSingle = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(kind of each character; index of its white-space-separated chunk) -> which are words of their
own, bool [characters]. White space belongs to no word."""


def spaced_words(texts: tf.Tensor) -> Words:
    """Split texts, string [n] in UTF-8, at white space; works in a graph."""
    return _split(texts, lambda kinds, chunks: tf.zeros_like(kinds, tf.bool))


def natural_words(texts: tf.Tensor) -> Words:
    """Split texts, string [n] in UTF-8, at white space and outer punctuation; works in a graph.

    Each punctuation character at either end of a chunk of text is a word of its own, as in most
    data sets of tagged words: "(U.S.-led)." gives "(", "U.S.-led", ")", ".".
    """
    return _split(texts, _is_outer_punctuation)


def _split(texts: tf.Tensor, is_single: _IsSingle) -> Words:
    codes = tf.strings.unicode_decode(texts, "UTF-8")
    rows = tf.cast(codes.value_rowids(), tf.int32)
    positions = tf.range(tf.size(rows)) - tf.cast(tf.gather(codes.row_starts(), rows), tf.int32)
    known = tf.where(codes.flat_values < LIMIT, codes.flat_values, 0)
    kinds = tf.gather(tf.constant(characters(lowercase=False).kinds), known)

    is_kept = kinds != SPACE
    letters = tf.boolean_mask(codes.flat_values, is_kept)
    rows, positions, kinds = (
        tf.boolean_mask(column, is_kept) for column in (rows, positions, kinds)
    )
    is_adjacent = (rows[1:] == rows[:-1]) & (positions[1:] == positions[:-1] + 1)
    single = is_single(kinds, _run_indices(is_adjacent, tf.size(rows)))
    word_of_letter = _run_indices(is_adjacent & ~single[1:] & ~single[:-1], tf.size(rows))

    word_letters = tf.RaggedTensor.from_value_rowids(letters, word_of_letter, validate=False)
    first = tf.cast(word_letters.row_starts(), tf.int32)
    last = tf.cast(word_letters.row_limits(), tf.int32) - 1
    word_rows = tf.cast(tf.gather(rows, first), tf.int64)
    num_texts = tf.size(texts, tf.int64)

    def by_text(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_value_rowids(values, word_rows, nrows=num_texts, validate=False)

    return Words(
        words=by_text(tf.strings.unicode_encode(word_letters, "UTF-8")),
        starts=by_text(tf.gather(positions, first)),
        ends=by_text(tf.gather(positions, last) + 1),
    )


def _run_indices(continues: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the index of the run that each of `count` items is in, int32 [count].

    Args:
      continues: bool [count - 1], whether each item but the first continues the run before it.
      count: Number of items; may be 0.
    """
    first = tf.ones([tf.minimum(count, 1)], tf.bool)
    return tf.cumsum(tf.cast(tf.concat([first, ~continues], axis=0), tf.int32)) - 1


def _is_outer_punctuation(kinds: tf.Tensor, chunks: tf.Tensor) -> tf.Tensor:
    """Return which characters are punctuation before or after all letters of their chunk."""
    is_letter = tf.cast(kinds == LETTER, tf.int32)
    num_chunks = tf.where(tf.size(chunks) > 0, tf.reduce_max(chunks) + 1, 0)
    before = tf.cumsum(is_letter, exclusive=True)
    after = tf.cumsum(is_letter, exclusive=True, reverse=True)
    before_chunk = tf.gather(tf.math.unsorted_segment_min(before, chunks, num_chunks), chunks)
    after_chunk = tf.gather(tf.math.unsorted_segment_min(after, chunks, num_chunks), chunks)
    is_outer = (before == before_chunk) | (after == after_chunk)
    return (kinds == SINGLE) & is_outer
