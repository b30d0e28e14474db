"""Preprocessing: tokenize tagged sentences once, before training."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from sft_keras.data.examples import Examples
from sft_keras.data.pipeline import Finish
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.token_classification.alignment import (
    IGNORE_INDEX,
    WordTokens,
    align_tags,
    tokenize_words,
)
from sft_keras.text.encoder import TextEncoder, Tokens
from sft_keras.text.preprocess import (
    length_facts,
    longest_row,
    prepare_tokens,
    read_splits,
    row_digests,
)
from sft_keras.text.token_features import TokenFeatures, TokenTargets

_BATCH_SIZE = 512

_Tokenize = Callable[[tf.RaggedTensor, tf.RaggedTensor], tuple[WordTokens, tf.RaggedTensor]]
"""From words and their tags, [n, (words)] each, to tokens and the tags of the tokens."""


@dataclasses.dataclass(frozen=True)
class TaggedSentence:
    """What evaluation needs of a sentence beside its tokens.

    Attributes:
      words: The words as in the source.
      tags: int32 [words], indices of the tags.
      first_subtokens: int32 [words], see `WordTokens`.
    """

    words: tuple[str, ...]
    tags: np.ndarray
    first_subtokens: np.ndarray


class _TokenizedSplit(NamedTuple):
    """The tokens of a split, their tags (int32 [n, (tokens)]), and its sentences, [n]."""

    tokens: Tokens
    token_tags: tf.RaggedTensor
    sentences: list[TaggedSentence]


def prepare_tagged_sentences(
    examples_by_split: Mapping[str, Examples],
    encoder: TextEncoder,
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Tokenize all splits; the `details` of the result are a `TaggedSentence` per example.

    Args:
      examples_by_split: The splits; elements of their streams hold "words" and "tags".
      encoder: Encoder of the backbone.
      progress: Called with (done, total) examples over all splits.
    """
    tokenize = _build_tokenize(encoder)  # one function for all splits, traced once
    tokenized = read_splits(
        examples_by_split, lambda examples: _tokenize_split(examples, tokenize), progress
    )
    width = longest_row((split.tokens.ids for split in tokenized.values()), encoder.sequence_length)
    return {
        name: _prepared(examples_by_split[name], split, encoder, width)
        for name, split in tokenized.items()
    }


def with_token_classes(num_classes: int) -> Finish:
    """Return the function that turns the targets of a batch into one-hot tags.

    The function maps a batch, whose "target" is int32 [batch, tokens], to (inputs; one-hot tags
    float32 [batch, tokens, num_classes]; sample weights float32 [batch, tokens]). Tokens without a
    tag have a row of zeros and weight 0, others weight 1.
    """

    def finish(batch: Mapping[str, Any]) -> tuple[Any, tf.Tensor, tf.Tensor]:
        tags = batch["target"]
        weights = tf.cast(tags != IGNORE_INDEX, tf.float32)
        return batch["input"], tf.one_hot(tags, num_classes), weights  # -1 is a row of zeros

    return finish


def _build_tokenize(encoder: TextEncoder) -> _Tokenize:
    @tf.function(
        input_signature=[
            tf.RaggedTensorSpec([None, None], tf.string),
            tf.RaggedTensorSpec([None, None], tf.int32),
        ],
        autograph=False,
    )
    def tokenize(
        words: tf.RaggedTensor, tags: tf.RaggedTensor
    ) -> tuple[WordTokens, tf.RaggedTensor]:
        word_tokens = tokenize_words(encoder, words)
        return word_tokens, align_tags(word_tokens, tags)

    return tokenize


def _tokenize_split(examples: Examples, tokenize: _Tokenize) -> _TokenizedSplit:
    tokens, token_tags, sentences = [], [], []
    for batch in examples.stream(None).ragged_batch(_BATCH_SIZE):
        word_tokens, batch_token_tags = tokenize(batch["words"], batch["tags"])
        tokens.append(word_tokens.tokens)
        token_tags.append(batch_token_tags)
        sentences += _tagged_sentences(batch["words"], batch["tags"], word_tokens.first_subtokens)
    ids, second_starts, lengths = (tf.concat(column, axis=0) for column in zip(*tokens))
    return _TokenizedSplit(
        Tokens(ids, second_starts, lengths), tf.concat(token_tags, axis=0), sentences
    )


def _tagged_sentences(
    words: tf.RaggedTensor, tags: tf.RaggedTensor, first_subtokens: tf.RaggedTensor
) -> list[TaggedSentence]:
    row_splits = words.row_splits.numpy()
    flat_words = [word.decode("utf-8", "replace") for word in words.flat_values.numpy()]
    flat_tags, flat_subtokens = tags.flat_values.numpy(), first_subtokens.flat_values.numpy()
    return [
        TaggedSentence(
            words=tuple(flat_words[start:end]),
            tags=flat_tags[start:end],
            first_subtokens=flat_subtokens[start:end],
        )
        for start, end in itertools.pairwise(row_splits)
    ]


def _prepared(
    examples: Examples, split: _TokenizedSplit, encoder: TextEncoder, width: int
) -> Prepared:
    tokens = split.tokens
    features = TokenFeatures(tokens.ids, tokens.second_starts, encoder, width)
    lengths = tokens.lengths.numpy()
    return prepare_tokens(
        examples,
        features,
        digests=row_digests(tokens.ids),
        targets=TokenTargets(split.token_tags, width, IGNORE_INDEX),
        details=split.sentences,
        facts=length_facts(lengths, lengths > features.row_lengths(), encoder.sequence_length),
    )
