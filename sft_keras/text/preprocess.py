"""Splits every text of the data into tokens once, before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.bucketing import padded_length
from sft_keras.data.examples import Examples
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.data.prepared import Prepared
from sft_keras.text.encoder import TextEncoder, Tokens
from sft_keras.text.token_features import TokenFeatures

_BATCH = 512
_MOST_BINS = 40


def prepare_texts(
    examples_by_split: Mapping[str, Examples],
    encoder: TextEncoder,
    sequence_length: int,
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Returns what is batched from, per split.

    Args:
      examples_by_split: The splits; elements of their streams hold "texts", string [1 or 2].
      encoder: Of the backbone.
      sequence_length: The most tokens of an example.
      progress: Called with (done, total) examples over all splits.
    """
    total = sum(len(examples) for examples in examples_by_split.values())
    tokenize = _tokenizer(encoder, next(iter(examples_by_split.values())))
    found, done = {}, 0
    for name, examples in examples_by_split.items():
        found[name] = _tokens(examples, tokenize)
        done += len(examples)
        progress(done, total)
    longest = max(int(ids.bounding_shape(1)) for ids, *_ in found.values())
    places = min(sequence_length, int(padded_length(np.int64(longest))))
    return {
        name: _prepared(examples_by_split[name], encoder, places, *tokens)
        for name, tokens in found.items()
    }


def _tokenizer(encoder: TextEncoder, examples: Examples) -> Callable[[tf.Tensor], Tokens]:
    """Returns one function for all splits, which is traced once for batches of any size."""
    (texts,) = examples.stream(None).element_spec["texts"].shape
    return tf.function(
        lambda batch: encoder.tokens(*tf.unstack(batch, axis=1)),
        input_signature=[tf.TensorSpec([None, texts], tf.string)],
        autograph=False,
    )


def _tokens(
    examples: Examples, tokenize: Callable[[tf.Tensor], Tokens]
) -> tuple[tf.RaggedTensor, tf.Tensor, np.ndarray]:
    """Returns (ids, seconds, lengths) of a split, see `Tokens`."""
    parts = [tokenize(batch["texts"]) for batch in examples.stream(None).batch(_BATCH)]
    ids, seconds, lengths = zip(*parts)
    return tf.concat(ids, axis=0), tf.concat(seconds, axis=0), np.concatenate(lengths)


def _prepared(
    examples: Examples,
    encoder: TextEncoder,
    places: int,
    ids: tf.RaggedTensor,
    seconds: tf.Tensor,
    lengths: np.ndarray,
) -> Prepared:
    flat, splits = ids.flat_values.numpy(), ids.row_splits.numpy()
    names = [
        digest(np.append(flat[start:end], second))
        for start, end, second in zip(splits, splits[1:], seconds.numpy())
    ]
    kept = np.diff(splits)

    return Prepared(
        examples=examples,
        features=TokenFeatures(ids, seconds, encoder, places),
        read=None,
        digests=np.frombuffer(b"".join(names), np.uint8).reshape(-1, DIGEST_SIZE),
        lengths=kept,
        facts=length_facts(lengths, kept, encoder.sequence_length),
    )


def length_facts(lengths: np.ndarray, kept: np.ndarray, sequence_length: int) -> dict[str, Any]:
    """Returns what the report says of the lengths of a split's texts.

    Args:
      lengths: int [n], tokens of each text.
      kept: int [n], what is left of them.
      sequence_length: The most there may be.
    """
    return {
        "texts": len(lengths),
        "cut_off": int((lengths > kept).sum()),
        "sequence_length": sequence_length,
        "longest": int(lengths.max()),
        "median": int(np.median(lengths)),
        "lengths": histogram(lengths),
    }


def histogram(lengths: np.ndarray) -> dict[str, Any]:
    """Returns {"width": of a bin, "counts": texts of 0 to width - 1 tokens, and so on}."""
    width = 2 ** max(0, int(np.ceil(np.log2((lengths.max() + 1) / _MOST_BINS))))
    return {"width": width, "counts": np.bincount(lengths // width).tolist()}
