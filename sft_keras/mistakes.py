"""The most confident mistakes on a split of images, with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.image_serving import prepared_pixels

_SHOWN = 24


def worst_image_mistakes(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Returns the wrong answers of highest probability, worst first, and their pictures as PNG."""
    labels = prepared.examples.labels
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN]
    wanted = set(worst.tolist())
    pictures = {
        index: tf.io.encode_png(pixels).numpy()
        for index, pixels in enumerate(prepared_pixels(prepared))
        if index in wanted
    }
    rows = [
        {
            "id": prepared.examples.ids[index],
            "true": class_names[labels[index]],
            "predicted": class_names[predicted[index]],
            "probability": float(confidence[index]),
        }
        for index in worst
    ]
    return rows, [pictures[index] for index in worst]
