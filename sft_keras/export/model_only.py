"""The model without its preprocessing, as a served function: what other formats are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from sft_keras.tasks.signatures import ServingSignatures

PIXELS = "images"
PROBABILITIES = "probabilities"
SIGNATURE = "serving_default"


def model_only_signatures(model: keras.Model) -> ServingSignatures:
    """Returns the one function that such a file has.

    It takes `images`, float32 [batch, height, width, 3] in 0..255, of the model's size; or the
    tensors of tokens by name, int32 [batch, tokens]. It answers `probabilities`, float32 [batch,
    num_classes] or [batch, tokens, tags].
    """
    taken = model.input
    by_name = dict(taken) if isinstance(taken, Mapping) else {PIXELS: taken}
    specs = [tf.TensorSpec(each.shape, each.dtype, name) for name, each in by_name.items()]

    def answer(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = dict(zip(by_name, given)) if isinstance(taken, Mapping) else given[0]
        return {PROBABILITIES: model(inputs, training=False)}

    return ServingSignatures({SIGNATURE: (answer, specs)})


def named_inputs(x: Any) -> dict[str, tf.Tensor]:
    """Returns what a batch of a task has as inputs, by the names that the file calls them."""
    return dict(x) if isinstance(x, Mapping) else {PIXELS: x}
