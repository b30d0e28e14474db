"""What the SavedModel of a model on texts answers, tokenizer inside."""

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


Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]
"""What is served of the model's outputs for some texts."""


def text_signatures(
    model: keras.Model, encoder: TextEncoder, info: DataInfo, answer: Answer
) -> ServingSignatures:
    """Returns the served functions.

    "serving_default" takes UTF-8 texts, string [batch], and for pairs `text_pairs` too, and answers
    as `answer` has it.
    """

    def from_pairs(texts: tf.Tensor, text_pairs: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(model(encoder.encode(texts, text_pairs), training=False))

    def from_texts(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(model(encoder.encode(texts), training=False))

    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ARGUMENTS]
    served = (from_pairs, specs) if info.facts["texts"] == 2 else (from_texts, specs[:1])
    needs = (encoder.needs,) if encoder.needs else ()
    names = info.class_names
    return ServingSignatures({TEXTS: served}, tracked=(encoder,), needs=needs, class_names=names)


def one_label(class_names: Sequence[str]) -> Answer:
    """Returns the function from probabilities, [batch, num_classes], to

    label: string [batch], the most probable class;
    probabilities: float32 [batch, num_classes];
    class_names: string [batch, num_classes], the names of the columns.
    """

    def answer(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        names = _names_of_columns(class_names, probabilities)
        best = tf.argmax(probabilities, axis=1)
        return {
            "label": tf.gather(names, best, batch_dims=1),
            "probabilities": probabilities,
            "class_names": names,
        }

    return answer


def any_labels(class_names: Sequence[str], threshold: float) -> Answer:
    """Returns the function from probabilities, [batch, num_classes], to

    chosen: bool [batch, num_classes], whether the text has the label;
    probabilities: float32 [batch, num_classes];
    class_names: string [batch, num_classes], the names of the columns.
    """

    def answer(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "chosen": probabilities > threshold,
            "probabilities": probabilities,
            "class_names": _names_of_columns(class_names, probabilities),
        }

    return answer


def a_number(outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns {"value": float32 [batch]} of outputs [batch, 1]."""
    return {"value": outputs[:, 0]}


def _names_of_columns(class_names: Sequence[str], probabilities: tf.Tensor) -> tf.Tensor:
    # Made here: a tensor of the surrounding eager context could not be saved.
    names = tf.constant(list(class_names))
    return tf.tile(names[tf.newaxis], [tf.shape(probabilities)[0], 1])


def text_samples(prepared: Prepared, limit: int) -> dict[str, dict[str, np.ndarray]]:
    """Returns the texts of the first `limit` examples of a split as inputs of the endpoint."""
    raw = itertools.islice(prepared.examples.stream(None), limit)
    columns = zip(*(example["texts"].numpy() for example in raw))
    return {TEXTS: {name: np.array(each, object) for name, each in zip(ARGUMENTS, columns)}}
