"""First-subtoken alignment: which token of a sentence stands for each of its words."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sft_keras.text.encoder import TextEncoder, Tokens

NO_TOKEN = -1
"""Stands for the first subtoken of a word that was truncated or has no subtokens."""

IGNORE_INDEX = -1
"""The target of tokens without a tag: they count neither in the loss nor in the metrics."""


class WordTokens(NamedTuple):
    """The tokens of n texts that were given as words.

    Attributes:
      tokens: The tokens of each text, special tokens included.
      first_subtokens: int32 [n, (words)], ragged; position of the first subtoken of each word among
        the tokens of its text, or `NO_TOKEN`.
    """

    tokens: Tokens
    first_subtokens: tf.RaggedTensor


def tokenize_words(encoder: TextEncoder, words: tf.RaggedTensor) -> WordTokens:
    """Return the tokens of texts given as words; works in a graph.

    Each word is tokenized by itself with a blank before it, as in running text. Texts with too many
    tokens are truncated.

    Args:
      encoder: Encoder of the backbone.
      words: string [n, (words)].
    """
    subtokens = encoder.pieces(tf.strings.join([" ", words.flat_values])).ids
    sizes = words.with_values(tf.cast(subtokens.row_lengths(), tf.int32))
    text_subtokens = words.with_values(subtokens).merge_dims(1, 2)
    tokens = encoder.pack_truncated(text_subtokens)

    subtokens_before = tf.cumsum(sizes.flat_values, exclusive=True)
    text_starts = tf.gather(tf.concat([subtokens_before, [0]], axis=0), words.row_starts())
    text_of_word = words.value_rowids()
    first = 1 + subtokens_before - tf.gather(text_starts, text_of_word)  # 1 for the start token
    limits = tf.cast(tokens.ids.row_lengths(), tf.int32) - 1  # the last token is a special one
    has_token = (sizes.flat_values > 0) & (first < tf.gather(limits, text_of_word))
    return WordTokens(tokens, words.with_values(tf.where(has_token, first, NO_TOKEN)))


def align_tags(word_tokens: WordTokens, tags: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return the tag of each token: that of the word whose first subtoken it is.

    Args:
      word_tokens: The tokens of n texts.
      tags: int32 [n, (words)].

    Returns:
      int32 [n, (tokens)], `IGNORE_INDEX` for all other tokens.
    """
    ids, first_subtokens = word_tokens.tokens.ids, word_tokens.first_subtokens
    row_starts = tf.cast(ids.row_starts(), tf.int32)
    word_row_starts = tf.gather(row_starts, first_subtokens.value_rowids())
    has_token = first_subtokens.flat_values != NO_TOKEN
    flat_indices = tf.boolean_mask(word_row_starts + first_subtokens.flat_values, has_token)
    token_tags = tf.tensor_scatter_nd_update(
        tf.fill(tf.shape(ids.flat_values), IGNORE_INDEX),
        flat_indices[:, tf.newaxis],
        tf.boolean_mask(tags.flat_values, has_token),
    )
    return ids.with_flat_values(token_tags)
