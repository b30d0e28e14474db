"""Inference of a model over the batches of a split."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.distributed.devices import ONE_DEVICE, Devices


def predict_batches(
    model: keras.Model, batches: tf.data.Dataset, devices: Devices = ONE_DEVICE
) -> np.ndarray:
    """Return the model's outputs for every example, in the order of the batches.

    A plain loop over a function that is traced once for batches of any size. `Model.predict` adds
    dataset options and callbacks, which cost more than they gain here.

    Args:
      model: A model with one output.
      batches: Batches (x, ...), of which only x is used.
      devices: The devices to compute on.

    Returns:
      float32 [examples, ...]; outputs of shorter batches of texts are padded as in
      `concatenate_padded`.

    Example:

    ```python
    probabilities = predict_batches(model, task.batches.evaluation(test))
    ```
    """
    predict = devices.make_predict_function(
        lambda x: model(x, training=False), batches.element_spec[0]
    )
    return concatenate_padded([predict(batch[0]).numpy() for batch in batches])


def concatenate_padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate outputs of batches along the first axis.

    Args:
      parts: Arrays [batch, ...]. With three or more dimensions, the second is the length of the
        texts, in which they may differ.

    Returns:
      An array [examples, ...]; shorter outputs are padded with zeros at the end.
    """
    if parts[0].ndim > 2:
        longest = max(part.shape[1] for part in parts)
        parts = [_pad_length(part, longest) for part in parts]
    return np.concatenate(parts)


def _pad_length(outputs: np.ndarray, length: int) -> np.ndarray:
    padding = [(0, 0), (0, length - outputs.shape[1])]
    return np.pad(outputs, [*padding, *[(0, 0)] * (outputs.ndim - 2)])
