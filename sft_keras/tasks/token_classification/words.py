"""Splits texts into words with their places, in TensorFlow's own operations."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.characters import LETTER, LIMIT, SINGLE, SPACE, characters


class Words(NamedTuple):
    """The words of some texts.

    Attributes:
      words: string [n, (words)], ragged.
      starts: int32 [n, (words)], where a word starts in its text, in characters.
      ends: The same for where it ends; the character there is not part of it.
    """

    words: tf.RaggedTensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


def spaced_words(texts: tf.Tensor) -> Words:
    """Returns what stands between white space in texts, string [n], UTF-8; works in a graph."""
    return _words(texts, lambda kinds, chunks: tf.zeros_like(kinds, tf.bool))


def natural_words(texts: tf.Tensor) -> Words:
    """Returns the words of texts as people write them; works in a graph.

    Punctuation at either end of what stands between white space is a word for each sign, as in most
    data whose words are tagged: "(U.S.-led)." gives "(", "U.S.-led", ")", ".".
    """
    return _words(texts, _outer_signs)


def _words(texts: tf.Tensor, are_alone: object) -> Words:
    """Returns words; `are_alone` says which of the characters that are no space are words alone."""
    codes = tf.strings.unicode_decode(texts, "UTF-8")
    rows = tf.cast(codes.value_rowids(), tf.int32)
    places = tf.range(tf.size(rows)) - tf.cast(tf.gather(codes.row_starts(), rows), tf.int32)
    known = tf.where(codes.flat_values < LIMIT, codes.flat_values, 0)
    kinds = tf.gather(tf.constant(characters(lowercase=False).kinds), known)
    is_kept = kinds != SPACE
    letters = tf.boolean_mask(codes.flat_values, is_kept)
    rows, places, kinds = (tf.boolean_mask(each, is_kept) for each in (rows, places, kinds))
    goes_on = (rows[1:] == rows[:-1]) & (places[1:] == places[:-1] + 1)
    chunks = _numbered(goes_on, tf.size(rows))
    alone = are_alone(kinds, chunks)
    number = _numbered(goes_on & ~alone[1:] & ~alone[:-1], tf.size(rows))
    spelt = tf.RaggedTensor.from_value_rowids(letters, number, validate=False)
    first = tf.cast(spelt.row_starts(), tf.int32)
    last = tf.cast(spelt.row_limits(), tf.int32) - 1
    own_rows = tf.cast(tf.gather(rows, first), tf.int64)
    found = (
        tf.strings.unicode_encode(spelt, "UTF-8"),
        tf.gather(places, first),
        tf.gather(places, last) + 1,
    )
    count = tf.size(texts, tf.int64)
    return Words(
        *(
            tf.RaggedTensor.from_value_rowids(each, own_rows, nrows=count, validate=False)
            for each in found
        )
    )


def _numbered(goes_on: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns which run each of `count` things belongs to; `goes_on` is for all but the first."""
    first = tf.ones([tf.minimum(count, 1)], tf.bool)
    return tf.cumsum(tf.cast(tf.concat([first, ~goes_on], axis=0), tf.int32)) - 1


def _outer_signs(kinds: tf.Tensor, chunks: tf.Tensor) -> tf.Tensor:
    """Returns which characters are signs with nothing but signs before or behind in their chunk."""
    is_letter = tf.cast(kinds == LETTER, tf.int32)
    count = tf.where(tf.size(chunks) > 0, tf.reduce_max(chunks) + 1, 0)
    before = tf.cumsum(is_letter, exclusive=True)
    behind = tf.cumsum(is_letter, exclusive=True, reverse=True)
    outside_before = tf.gather(tf.math.unsorted_segment_min(before, chunks, count), chunks)
    outside_behind = tf.gather(tf.math.unsorted_segment_min(behind, chunks, count), chunks)
    is_outer = (before == outside_before) | (behind == outside_behind)
    return (kinds == SINGLE) & is_outer
