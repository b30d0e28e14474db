"""Splits tagged words into tokens once, before training."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.examples import Examples
from sft_keras.data.pipeline import Finish
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.token_classification.alignment import WordTokens, word_targets, word_tokens
from sft_keras.text.encoder import TextEncoder, Tokens
from sft_keras.text.preprocess import (
    length_facts,
    longest_row,
    prepare_tokens,
    read_splits,
    row_digests,
)
from sft_keras.text.token_features import TokenFeatures, TokenTargets

_BATCH = 512


@dataclasses.dataclass(frozen=True)
class TaggedText:
    """What is kept of a sentence beside its tokens.

    Attributes:
      words: As in the source.
      tags: int32 [words], by number.
      places: int32 [words], at which token the first piece of each stands; see `WordTokens`.
    """

    words: tuple[str, ...]
    tags: np.ndarray
    places: np.ndarray


def prepare_words(
    examples_by_split: Mapping[str, Examples],
    encoder: TextEncoder,
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Returns what is batched from, per split; `details` are a `TaggedText` each.

    Args:
      examples_by_split: The splits; elements of their streams hold "words" and "tags".
      encoder: Of the backbone.
      progress: Called with (done, total) examples over all splits.
    """
    tokenize = _tokenizer(encoder)  # one for all splits, so that it is traced once
    found = read_splits(examples_by_split, lambda examples: _read(examples, tokenize), progress)
    places = longest_row((tokens.ids for tokens, *_ in found.values()), encoder.sequence_length)
    return {
        name: _prepared(examples_by_split[name], encoder, places, *each)
        for name, each in found.items()
    }


_Tokenize = Callable[[tf.RaggedTensor, tf.RaggedTensor], tuple[WordTokens, tf.RaggedTensor]]
"""From words and their tags to tokens and targets."""


def _tokenizer(encoder: TextEncoder) -> _Tokenize:
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
        found = word_tokens(encoder, words)
        return found, word_targets(found, tags, IGNORED)

    return tokenize


def _read(
    examples: Examples, tokenize: _Tokenize
) -> tuple[Tokens, tf.RaggedTensor, list[TaggedText]]:
    """Returns tokens, targets and details of a split."""
    tokens, targets, details = [], [], []
    for batch in examples.stream(None).ragged_batch(_BATCH):
        found, own = tokenize(batch["words"], batch["tags"])
        tokens.append(found.tokens)
        targets.append(own)
        details += _details(batch["words"], batch["tags"], found.places)
    ids, second_starts, lengths = (tf.concat(each, axis=0) for each in zip(*tokens))
    return Tokens(ids, second_starts, lengths), tf.concat(targets, axis=0), details


def _details(
    words: tf.RaggedTensor, tags: tf.RaggedTensor, places: tf.RaggedTensor
) -> list[TaggedText]:
    splits = words.row_splits.numpy()
    flat = [word.decode("utf-8", "replace") for word in words.flat_values.numpy()]
    columns = tags.flat_values.numpy(), places.flat_values.numpy()
    return [
        TaggedText(tuple(flat[start:end]), *(each[start:end] for each in columns))
        for start, end in itertools.pairwise(splits)
    ]


def _prepared(
    examples: Examples,
    encoder: TextEncoder,
    places: int,
    tokens: Tokens,
    targets: tf.RaggedTensor,
    details: list[TaggedText],
) -> Prepared:
    features = TokenFeatures(tokens.ids, tokens.second_starts, encoder, places)
    lengths = tokens.lengths.numpy()
    return prepare_tokens(
        examples,
        features,
        digests=row_digests(tokens.ids),
        targets=TokenTargets(targets, places, IGNORED),
        details=details,
        facts=length_facts(lengths, lengths > features.row_lengths(), encoder.sequence_length),
    )


IGNORED = -1
"""The target of tokens that have no class: they count neither in the loss nor in figures."""


def with_token_classes(num_classes: int) -> Finish:
    """Returns a function from batches whose targets are the classes of tokens, by number.

    To (x; one-hot classes float32 [batch, tokens, num_classes], with zeros for tokens that have
    none; sample weights float32 [batch, tokens], 0 for these and 1 for others).
    """

    def finish(batch: Mapping[str, Any]) -> tuple[Any, tf.Tensor, tf.Tensor]:
        classes = batch["target"]
        weights = tf.cast(classes != IGNORED, tf.float32)
        return batch["input"], tf.one_hot(classes, num_classes), weights  # a row of zeros for -1

    return finish
