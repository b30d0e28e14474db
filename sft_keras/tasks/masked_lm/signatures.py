"""What the SavedModel of a masked language model answers: which tokens fill a gap in a text."""

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

GAP = "[MASK]"
_MOST = 5


def mask_filling_signatures(model: keras.Model, encoder: TextEncoder) -> ServingSignatures:
    """Returns the served function.

    "serving_default" takes UTF-8 texts, string [batch], each with a gap, written [MASK]; where
    there is none, the gap is at the end. It answers with the five most probable pieces for it:
      label: string [batch], the most probable;
      probabilities: float32 [batch, 5], falling;
      class_names: string [batch, 5], the pieces.
    """
    pieces = list(encoder.vocabulary())

    def from_texts(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        # Made here: a tensor of the surrounding eager context could not be saved.
        names = tf.constant(pieces)
        probabilities = model(gap_inputs(encoder, texts), training=False)[:, 0, :]
        best, ids = tf.math.top_k(probabilities, min(_MOST, len(pieces)))
        found = tf.gather(names, ids)
        return {"label": found[:, 0], "probabilities": best, "class_names": found}

    specs = [tf.TensorSpec([None], tf.string, name="texts")]
    needs = (encoder.needs,) if encoder.needs else ()
    return ServingSignatures({TEXTS: (from_texts, specs)}, tracked=(encoder,), needs=needs)


def gap_inputs(encoder: TextEncoder, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns what the model reads for texts with a gap, string [n]; works in a graph.

    Of a text that is too long, the end of the longer side of the gap is cut off.
    """
    # The text with "[MASK]" behind it: then there is a first one in each.
    halves = tf.strings.split(tf.strings.join([texts, GAP]), GAP, maxsplit=1)
    halves = halves.to_tensor(shape=[None, 2])
    before = tf.strings.regex_replace(halves[:, 0], r"\s+$", "")
    after = tf.strings.regex_replace(halves[:, 1], r"\[MASK\]$", "")
    found = encoder.tokenize(before, after)
    # As a pair is read, with the gap in place of what stands between.
    place = found.second_starts - 1
    ids, extra = found.ids, encoder.separators - 1
    if extra:
        places = tf.cast(tf.ragged.range(ids.row_lengths()).flat_values, tf.int32)
        own = tf.gather(place, ids.value_rowids())
        kept = (places >= own) | (places < own - extra)
        ids = tf.ragged.boolean_mask(ids, ids.with_flat_values(kept))
        place -= extra
    sizes = tf.cast(ids.row_lengths(), tf.int32)
    inputs = encoder.pad(ids, sizes, tf.reduce_max(sizes))
    is_gap = tf.range(tf.reduce_max(sizes)) == place[:, tf.newaxis]
    inputs["token_ids"] = tf.where(is_gap, encoder.special.mask, inputs["token_ids"])
    return {**inputs, MASK_POSITIONS: place[:, tf.newaxis]}


def gap_samples(
    model: keras.Model, encoder: TextEncoder, prepared: Prepared, limit: int
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Returns texts of a split for the endpoint, and the probabilities that it must answer with.

    The gap is behind each text. What is expected is found one text after the other from its stored
    tokens, and not by what the endpoint itself computes.
    """
    raw = itertools.islice(prepared.examples.stream(None), limit)
    texts = np.array([example["texts"].numpy()[0] for example in raw], object)
    room = encoder.sequence_length - 2 - encoder.separators
    special, expected = encoder.special, []
    for index in range(len(texts)):
        stored = prepared.features.take(tf.constant([index], tf.int64))
        length = int(tf.reduce_sum(stored["padding_mask"]))
        ids = stored["token_ids"].numpy()[0, : min(length - 1, 1 + room)]
        ids = np.append(ids, [special.mask, special.end]).astype(np.int32)[np.newaxis]
        inputs = {name: np.zeros_like(ids) for name in stored}
        inputs |= {"token_ids": ids, "padding_mask": np.ones_like(ids)}
        inputs[MASK_POSITIONS] = np.array([[ids.shape[1] - 2]], np.int32)
        probabilities = model(inputs, training=False).numpy()[0, 0]
        expected.append(np.sort(probabilities)[::-1][:_MOST])
    return {TEXTS: {"texts": texts}}, np.stack(expected)
