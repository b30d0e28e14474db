"""Signatures of text classification and regression models, tokenizer included."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.text.encoder import TextEncoder

TEXTS = "serving_default"
ARGUMENTS = ("texts", "text_pairs")

Postprocess = Callable[[tf.Tensor], dict[str, tf.Tensor]]
"""From the model's outputs, [batch, ...], to the outputs of the signature."""


def text_signatures(
    model: keras.Model, encoder: TextEncoder, info: DataInfo, postprocess: Postprocess
) -> ServingSignatures:
    """Return the signatures of a model whose inputs are texts or pairs of texts.

    Args:
      model: From token tensors to outputs.
      encoder: The tokenizer, saved inside the SavedModel.
      info: Facts about the data: whether inputs are pairs, and the class names.
      postprocess: From the model's outputs to those of the signature.

    Returns:
      "serving_default", with arguments `texts` and, for pairs, `text_pairs`: UTF-8, string [batch].
    """

    def from_pairs(texts: tf.Tensor, text_pairs: tf.Tensor) -> dict[str, tf.Tensor]:
        return postprocess(model(encoder.encode(texts, text_pairs), training=False))

    def from_texts(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return postprocess(model(encoder.encode(texts), training=False))

    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ARGUMENTS]
    function = (from_pairs, specs) if info.facts["texts"] == 2 else (from_texts, specs[:1])
    needs = (encoder.needs,) if encoder.needs else ()
    names = info.class_names
    return ServingSignatures({TEXTS: function}, tracked=(encoder,), needs=needs, class_names=names)


def single_label_outputs(class_names: Sequence[str]) -> Postprocess:
    """Return the postprocessing of class probabilities, [batch, num_classes].

    Its outputs are
      label: string [batch], the most probable class;
      probabilities: float32 [batch, num_classes];
      class_names: string [batch, num_classes], the names of the columns.
    """

    def postprocess(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        names = _column_names(class_names, probabilities)
        best = tf.argmax(probabilities, axis=1)
        return {
            "label": tf.gather(names, best, batch_dims=1),
            "probabilities": probabilities,
            "class_names": names,
        }

    return postprocess


def multi_label_outputs(class_names: Sequence[str], threshold: float) -> Postprocess:
    """Return the postprocessing of independent label probabilities, [batch, num_classes].

    Its outputs are
      chosen: bool [batch, num_classes], whether the probability is above `threshold`;
      probabilities: float32 [batch, num_classes];
      class_names: string [batch, num_classes], the names of the columns.
    """

    def postprocess(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "chosen": probabilities > threshold,
            "probabilities": probabilities,
            "class_names": _column_names(class_names, probabilities),
        }

    return postprocess


def regression_outputs(outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return {"value": float32 [batch]} for outputs of shape [batch, 1]."""
    return {"value": outputs[:, 0]}


def _column_names(class_names: Sequence[str], probabilities: tf.Tensor) -> tf.Tensor:
    # Created inside the traced function: a captured eager tensor could not be saved.
    names = tf.constant(list(class_names))
    return tf.tile(names[tf.newaxis], [tf.shape(probabilities)[0], 1])


def text_samples(prepared: Prepared, limit: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the texts of the first `limit` examples of a split as inputs of the signature.

    Returns:
      {signature: {argument: object [limit or fewer]}}.
    """
    examples = itertools.islice(prepared.examples.stream(None), limit)
    columns = zip(*(example["texts"].numpy() for example in examples))
    return {TEXTS: {name: np.array(column, object) for name, column in zip(ARGUMENTS, columns)}}
