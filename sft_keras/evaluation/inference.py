"""The whole model's answers for a split, in stored order."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from sft_keras.distributed.devices import ONE_DEVICE, Devices


def answers(
    model: keras.Model, batches: tf.data.Dataset, devices: Devices = ONE_DEVICE
) -> np.ndarray:
    """Returns the model's outputs for every example of (x, y, ...) batches, float32 [n, ...].

    Where batches are of different lengths, shorter outputs are filled up with zeros.

    A plain loop over a function that is traced once, for batches of any size: `Model.predict` puts
    data set options and callbacks around it that cost more than they give here.
    """
    answer = devices.make_predict_function(
        lambda x: model(x, training=False), batches.element_spec[0]
    )
    return joined([answer(batch[0]).numpy() for batch in batches])


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the outputs for batches as one array; see `answers` for those of other lengths."""
    if parts[0].ndim > 2:
        longest = max(part.shape[1] for part in parts)
        parts = [_lengthened(part, longest) for part in parts]
    return np.concatenate(parts)


def _lengthened(outputs: np.ndarray, places: int) -> np.ndarray:
    missing = [(0, 0), (0, places - outputs.shape[1])]
    return np.pad(outputs, [*missing, *[(0, 0)] * (outputs.ndim - 2)])
