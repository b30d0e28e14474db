"""What the SavedModel of a text classifier answers, tokenizer inside."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import tensorflow as tf

from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.endpoints import Endpoints
from sft_keras.text.encoder import TextEncoder

TEXTS = "serving_default"
ARGUMENTS = ("texts", "text_pairs")


def text_endpoints(model: keras.Model, encoder: TextEncoder, info: DataInfo) -> Endpoints:
    """Returns the served functions.

    "serving_default" takes UTF-8 texts, string [batch], and for pairs `text_pairs` too, and answers
      label: string [batch], the most probable class;
      probabilities: float32 [batch, num_classes];
      class_names: string [batch, num_classes], the names of the columns.
    """

    def answer(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
        # Made here: a tensor of the surrounding eager context could not be saved.
        names = tf.constant(list(info.class_names))
        inputs = encoder.inputs(*texts)
        probabilities = model(inputs, training=False)
        return {
            "label": tf.gather(names, tf.argmax(probabilities, axis=1)),
            "probabilities": probabilities,
            "class_names": tf.tile(names[tf.newaxis], [tf.shape(probabilities)[0], 1]),
        }

    def from_pairs(texts: tf.Tensor, text_pairs: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(texts, text_pairs)

    def from_texts(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(texts)

    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ARGUMENTS]
    served = (from_pairs, specs) if info.facts["texts"] == 2 else (from_texts, specs[:1])
    needs = (encoder.needs,) if encoder.needs else ()
    return Endpoints({TEXTS: served}, tracked=(encoder,), needs=needs)


def text_samples(prepared: Prepared, limit: int) -> dict[str, dict[str, np.ndarray]]:
    """Returns the texts of the first `limit` examples of a split as inputs of the endpoint."""
    raw = itertools.islice(prepared.examples.stream(None), limit)
    columns = zip(*(example["texts"].numpy() for example in raw))
    return {TEXTS: {name: np.array(each, object) for name, each in zip(ARGUMENTS, columns)}}
