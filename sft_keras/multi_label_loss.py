"""The loss of any number of labels an example, and how many decisions are right."""

from __future__ import annotations

import math

import keras


class LabelwiseCrossentropy(keras.losses.BinaryCrossentropy):
    """Binary cross-entropy of each label, so that a sample weight may be that of a label.

    Keras' own has a value an example, the mean over its labels; here the mean over examples and
    labels is taken at once, which without weights is the same.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the loss of each label, [batch, num_classes]."""
        expand = keras.ops.expand_dims
        return super().call(expand(y_true, -1), expand(y_pred, -1))


def decision_accuracy(threshold: float) -> keras.metrics.Metric:
    """Returns the metric "accuracy": over all labels, the share that is rightly given or not.

    Args:
      threshold: A label is given where its probability is above; the metric is of logits.
    """
    bound = math.log(threshold / (1 - threshold))

    def is_right(y_true: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        right = keras.ops.equal(y_true > 0.5, logits > bound)
        return keras.ops.mean(keras.ops.cast(right, "float32"), axis=-1)

    return keras.metrics.MeanMetricWrapper(is_right, name="accuracy")
