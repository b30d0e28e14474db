"""The SavedModel of a masked language model: which tokens fill the [MASK] of a text."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import tensorflow as tf

from sft_keras.backbones.text import MASK_POSITIONS
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.text_signatures import TEXTS
from sft_keras.text.encoder import TextEncoder

MASK_MARKER = "[MASK]"
"""Marks the position to fill in a served text, whatever the tokenizer calls its mask token."""

_TOP_K = 5


def fill_mask_signatures(model: keras.Model, encoder: TextEncoder) -> ServingSignatures:
    """Return the served function.

    "serving_default" takes UTF-8 texts, string [batch], each with one [MASK]; without one, the
    position to fill is at the end of the text. It returns the five most probable tokens for it:
      label: string [batch], the most probable token;
      probabilities: float32 [batch, 5], in descending order;
      class_names: string [batch, 5], the tokens.
    """
    vocabulary = list(encoder.vocabulary())

    def fill_mask(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        # Created in the graph: a tensor captured from the eager context could not be saved.
        vocabulary_tensor = tf.constant(vocabulary)
        probabilities = model(fill_mask_inputs(encoder, texts), training=False)[:, 0, :]
        top_probabilities, ids = tf.math.top_k(probabilities, min(_TOP_K, len(vocabulary)))
        tokens = tf.gather(vocabulary_tensor, ids)
        return {"label": tokens[:, 0], "probabilities": top_probabilities, "class_names": tokens}

    specs = [tf.TensorSpec([None], tf.string, name="texts")]
    needs = (encoder.needs,) if encoder.needs else ()
    return ServingSignatures({TEXTS: (fill_mask, specs)}, tracked=(encoder,), needs=needs)


def fill_mask_inputs(encoder: TextEncoder, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the model inputs for texts with one [MASK] each; works in a graph.

    Texts that are too long are truncated at the end of the longer side of the mask.

    Args:
      encoder: Encoder of the backbone.
      texts: string [n], UTF-8.

    Returns:
      int32 [n, tokens] per input, and "mask_positions", int32 [n, 1].
    """
    # With a marker appended, every text has a first one.
    sides = tf.strings.split(tf.strings.join([texts, MASK_MARKER]), MASK_MARKER, maxsplit=1)
    sides = sides.to_tensor(shape=[None, 2])
    before = tf.strings.regex_replace(sides[:, 0], r"\s+$", "")
    after = tf.strings.regex_replace(sides[:, 1], r"\[MASK\]$", "")
    # Encoded as a pair, whose separator then becomes the mask.
    tokens = encoder.tokenize(before, after)
    mask_position = tokens.second_starts - 1
    ids, surplus = tokens.ids, encoder.separators - 1
    if surplus:
        positions = tf.cast(tf.ragged.range(ids.row_lengths()).flat_values, tf.int32)
        row_mask_position = tf.gather(mask_position, ids.value_rowids())
        is_kept = (positions >= row_mask_position) | (positions < row_mask_position - surplus)
        ids = tf.ragged.boolean_mask(ids, ids.with_flat_values(is_kept))
        mask_position -= surplus
    sizes = tf.cast(ids.row_lengths(), tf.int32)
    inputs = encoder.pad(ids, sizes, tf.reduce_max(sizes))
    is_mask = tf.range(tf.reduce_max(sizes)) == mask_position[:, tf.newaxis]
    inputs["token_ids"] = tf.where(is_mask, encoder.special.mask, inputs["token_ids"])
    return {**inputs, MASK_POSITIONS: mask_position[:, tf.newaxis]}


def fill_mask_samples(
    model: keras.Model, encoder: TextEncoder, prepared: Prepared, limit: int
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Return texts to verify the exported model with, and the probabilities it must return.

    The mask is at the end of each text. The expected probabilities are computed text by text from
    the stored tokens, independently of `fill_mask_inputs`.

    Args:
      model: The trained model.
      encoder: Encoder of the backbone.
      prepared: The split to take texts from.
      limit: The largest number of texts.

    Returns:
      Inputs by endpoint and argument, and "probabilities", float32 [texts, 5].
    """
    examples = itertools.islice(prepared.examples.stream(None), limit)
    texts = np.array([example["texts"].numpy()[0] for example in examples], object)
    expected = [_mask_at_the_end(model, encoder, prepared, row) for row in range(len(texts))]
    return {TEXTS: {"texts": texts}}, np.stack(expected)


def _mask_at_the_end(
    model: keras.Model, encoder: TextEncoder, prepared: Prepared, row: int
) -> np.ndarray:
    """Return the highest probabilities for a mask after a stored text, in descending order, [5]."""
    if prepared.features is None:
        raise ValueError("the tokens of the split must be stored")
    special = encoder.special
    max_tokens = encoder.sequence_length - 2 - encoder.separators
    stored = prepared.features.take(tf.constant([row], tf.int64))
    length = int(tf.reduce_sum(stored["padding_mask"]))
    ids = stored["token_ids"].numpy()[0, : min(length - 1, 1 + max_tokens)]
    ids = np.append(ids, [special.mask, special.end]).astype(np.int32)[np.newaxis]
    inputs = {name: np.zeros_like(ids) for name in stored}
    inputs |= {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    inputs[MASK_POSITIONS] = np.array([[ids.shape[1] - 2]], np.int32)
    probabilities = model(inputs, training=False).numpy()[0, 0]
    return np.sort(probabilities)[::-1][:_TOP_K]
