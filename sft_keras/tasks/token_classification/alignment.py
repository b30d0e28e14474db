"""From words to the tokens of a backbone, and which token stands for each word."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.encoder import TextEncoder, Tokens

NO_PLACE = -1


class WordTokens(NamedTuple):
    """Some texts, given as words, as a backbone reads them.

    Attributes:
      tokens: Their tokens, special ones included.
      places: int32 [n, (words)], ragged: at which token of its text the first piece of each word
        stands; `NO_PLACE` where that was cut off, or a word has no pieces.
    """

    tokens: Tokens
    places: tf.RaggedTensor


def word_tokens(encoder: TextEncoder, words: tf.RaggedTensor) -> WordTokens:
    """Returns the tokens of words, string [n, (words)]; works in a graph.

    Every word is split by itself, with a blank before it, as in running text. Of a text with too
    many tokens the end is cut off.
    """
    pieces = encoder.pieces(tf.strings.join([" ", words.flat_values])).ids
    sizes = words.with_values(tf.cast(pieces.row_lengths(), tf.int32))
    by_text = words.with_values(pieces).merge_dims(1, 2)
    found = encoder.pack_truncated(by_text)
    until = tf.cumsum(sizes.flat_values, exclusive=True)
    starts = tf.gather(tf.concat([until, [0]], axis=0), words.row_starts())
    first = 1 + until - tf.gather(starts, words.value_rowids())
    kept = tf.cast(found.ids.row_lengths(), tf.int32) - 1  # the last token is no part of a text
    is_there = (sizes.flat_values > 0) & (first < tf.gather(kept, words.value_rowids()))
    return WordTokens(found, words.with_values(tf.where(is_there, first, NO_PLACE)))


def word_targets(found: WordTokens, tags: tf.RaggedTensor, ignored: int) -> tf.RaggedTensor:
    """Returns the tag of each token, int32 [n, (tokens)]: that of the word whose first piece it is.

    Args:
      found: The tokens.
      tags: int32 [n, (words)].
      ignored: What stands at all other tokens.
    """
    ids = found.tokens.ids
    begins = tf.gather(tf.cast(ids.row_starts(), tf.int32), found.places.value_rowids())
    is_there = found.places.flat_values != NO_PLACE
    at = tf.boolean_mask(begins + found.places.flat_values, is_there)
    values = tf.tensor_scatter_nd_update(
        tf.fill(tf.shape(ids.flat_values), ignored),
        at[:, tf.newaxis],
        tf.boolean_mask(tags.flat_values, is_there),
    )
    return ids.with_flat_values(values)
