"""The most confident mistakes on a split, with their pictures or texts."""

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
    worst, rows = _worst(probabilities, prepared, class_names)
    wanted = set(worst)
    pictures = {
        index: tf.io.encode_png(pixels).numpy()
        for index, pixels in enumerate(prepared_pixels(prepared))
        if index in wanted
    }
    return rows, [pictures[index] for index in worst]


def worst_text_mistakes(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the wrong answers of highest probability, worst first, each with its "text"."""
    worst, rows = _worst(probabilities, prepared, class_names)
    texts = {
        int(example["index"]): "\n".join(text.decode() for text in example["texts"].numpy())
        for example in prepared.examples.stream(None)
        if int(example["index"]) in set(worst)
    }
    return [{**row, "text": texts[index]} for index, row in zip(worst, rows)]


def _worst(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Returns the positions of the worst mistakes in their split, and a row of facts for each."""
    labels = prepared.examples.labels
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN]
    rows = [
        {
            "id": prepared.examples.ids[index],
            "true": class_names[labels[index]],
            "predicted": class_names[predicted[index]],
            "probability": float(confidence[index]),
        }
        for index in worst
    ]
    return worst.tolist(), rows
