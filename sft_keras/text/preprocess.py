"""Tokenize every text once, before training.

The steps that all text tasks share are functions here: reading the splits one after the other,
choosing the length that rows are padded to, and building a `Prepared` split from its tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from sft_keras.data.bucketing import padded_length
from sft_keras.data.examples import Examples
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.data.prepared import Prepared
from sft_keras.text.encoder import TextEncoder, Tokens
from sft_keras.text.token_features import TokenFeatures

_BATCH = 512
_MAX_BINS = 40

_Read = TypeVar("_Read")


def prepare_texts(
    examples_by_split: Mapping[str, Examples],
    encoder: TextEncoder,
    sequence_length: int,
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Tokenize all texts and return the splits, ready to be batched.

    Args:
      examples_by_split: The splits; elements of their streams hold "texts", string [1 or 2].
      encoder: The backbone's encoder.
      sequence_length: The largest number of tokens per example.
      progress: Called with (done, total) examples over all splits.
    """
    tokenize = _tokenizer(encoder, next(iter(examples_by_split.values())))
    tokens_by_split = read_splits(
        examples_by_split, lambda examples: _tokenize_split(examples, tokenize), progress
    )
    row_length = longest_row((tokens.ids for tokens in tokens_by_split.values()), sequence_length)
    prepared = {}
    for name, (ids, second_starts, lengths) in tokens_by_split.items():
        is_truncated = lengths > np.diff(ids.row_splits.numpy())
        prepared[name] = prepare_tokens(
            examples_by_split[name],
            TokenFeatures(ids, second_starts, encoder, row_length),
            digests=row_digests(ids, second_starts.numpy()),
            facts=length_facts(lengths, is_truncated, encoder.sequence_length),
        )
    return prepared


def read_splits(
    examples_by_split: Mapping[str, Examples],
    read: Callable[[Examples], _Read],
    progress: Callable[[int, int], None],
) -> dict[str, _Read]:
    """Return the result of `read` per split, and report progress after each of them.

    Args:
      examples_by_split: The splits.
      read: Reads one split.
      progress: Called with (done, total) examples over all splits.
    """
    total = sum(len(examples) for examples in examples_by_split.values())
    results, done = {}, 0
    for name, examples in examples_by_split.items():
        results[name] = read(examples)
        done += len(examples)
        progress(done, total)
    return results


def longest_row(ids_by_split: Iterable[tf.RaggedTensor], sequence_length: int) -> int:
    """Return the length that fits every row of all splits, rounded up for few different shapes.

    Args:
      ids_by_split: int32 [n, (tokens)] per split.
      sequence_length: The upper limit.
    """
    longest = max(int(ids.bounding_shape(1)) for ids in ids_by_split)
    return min(sequence_length, int(padded_length(np.int64(longest))))


def row_digests(ids: tf.RaggedTensor, suffixes: np.ndarray | None = None) -> np.ndarray:
    """Return the hash of each row of tokens, uint8 [n, DIGEST_SIZE].

    Args:
      ids: int32 [n, (tokens)].
      suffixes: int32 [n], a number that is hashed after the tokens of each row, such as the start
        of the second text; None to hash only the tokens.
    """
    flat, splits = ids.flat_values.numpy(), ids.row_splits.numpy()
    rows = [flat[start:end] for start, end in itertools.pairwise(splits)]
    if suffixes is not None:
        rows = [np.append(row, suffix) for row, suffix in zip(rows, suffixes)]
    return np.frombuffer(b"".join(map(digest, rows)), np.uint8).reshape(-1, DIGEST_SIZE)


def prepare_tokens(
    examples: Examples, features: TokenFeatures, digests: np.ndarray, **fields: Any
) -> Prepared:
    """Return a split of token rows, ready to be batched.

    Args:
      examples: The split.
      features: The tokens of each example.
      digests: The hash of each row, see `row_digests`.
      **fields: More fields of `Prepared`, such as targets and details.
    """
    return Prepared(
        examples=examples,
        features=features,
        read=None,
        digests=digests,
        lengths=features.row_lengths(),
        **fields,
    )


def length_facts(
    lengths: np.ndarray, is_truncated: np.ndarray, sequence_length: int
) -> dict[str, Any]:
    """Return the report's facts on the text lengths of a split.

    Args:
      lengths: int [n], tokens of each text before truncation.
      is_truncated: bool [n], which texts do not fit.
      sequence_length: The largest number of tokens per row.
    """
    return {
        "texts": len(lengths),
        "cut_off": int(is_truncated.sum()),
        "sequence_length": sequence_length,
        "longest": int(lengths.max()),
        "median": int(np.median(lengths)),
        "lengths": _histogram(lengths),
    }


def _histogram(lengths: np.ndarray) -> dict[str, Any]:
    """Return {"width": tokens per bin, "counts": texts of 0 .. width - 1 tokens, and so on}."""
    width = 2 ** max(0, int(np.ceil(np.log2((lengths.max() + 1) / _MAX_BINS))))
    return {"width": width, "counts": np.bincount(lengths // width).tolist()}


def _tokenizer(encoder: TextEncoder, examples: Examples) -> Callable[[tf.Tensor], Tokens]:
    """Return one function for all splits, which is traced once for batches of any size."""
    (texts,) = examples.stream(None).element_spec["texts"].shape
    return tf.function(
        lambda batch: encoder.tokenize(*tf.unstack(batch, axis=1)),
        input_signature=[tf.TensorSpec([None, texts], tf.string)],
        autograph=False,
    )


def _tokenize_split(examples: Examples, tokenize: Callable[[tf.Tensor], Tokens]) -> Tokens:
    """Return the tokens of a whole split; `lengths` as a NumPy array."""
    batches = [tokenize(batch["texts"]) for batch in examples.stream(None).batch(_BATCH)]
    ids, second_starts, lengths = zip(*batches)
    return Tokens(tf.concat(ids, axis=0), tf.concat(second_starts, axis=0), np.concatenate(lengths))
