"""The whole model's answers for a split, in stored order."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def answers(model: keras.Model, batches: tf.data.Dataset) -> np.ndarray:
    """Returns the model's outputs for every example of (x, y) batches, float32 [n, ...].

    A plain loop over a function that is traced once, for batches of any size: `Model.predict` puts
    data set options and callbacks around it that cost more than they give here.
    """

    @tf.function(input_signature=[batches.element_spec[0]], autograph=False)
    def answer(x: tf.Tensor) -> tf.Tensor:
        return model(x, training=False)

    return np.concatenate([answer(x).numpy() for x, _ in batches])
