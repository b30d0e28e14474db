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
    return _with_texts(rows, worst, prepared)


def worst_label_sets(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str], threshold: float
) -> list[dict[str, Any]]:
    """Returns the texts with a wrong label or without a right one, each with its "text".

    First those whose probability for such a label is furthest from what it should be.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split; its examples' occurrences are the truth.
      class_names: Names in the order of the columns.
      threshold: A label is given where its probability is above.
    """
    truth = prepared.examples.occurrences > 0
    given = probabilities > threshold
    off = np.where(given == truth, 0, np.abs(truth - probabilities)).max(axis=1)
    worst = _furthest(off)

    def named(chosen: np.ndarray) -> str:
        return ", ".join(np.array(class_names, object)[chosen]) or "no label"

    rows = [
        {
            "id": prepared.examples.ids[index],
            "true": named(truth[index]),
            "predicted": named(given[index]),
        }
        for index in worst
    ]
    return _with_texts(rows, worst, prepared)


def largest_errors(
    predicted: np.ndarray, truth: np.ndarray, prepared: Prepared
) -> list[dict[str, Any]]:
    """Returns the texts whose predicted number is furthest from the true one, each with its "text".

    Args:
      predicted: Float [n].
      truth: Float [n].
      prepared: The split.
    """
    worst = _furthest(np.abs(predicted - truth))
    rows = [
        {
            "id": prepared.examples.ids[index],
            "true": f"{truth[index]:.5g}",
            "predicted": f"{predicted[index]:.5g}",
        }
        for index in worst
    ]
    return _with_texts(rows, worst, prepared)


def _furthest(off: np.ndarray) -> list[int]:
    """Returns where numbers are above 0, the largest first."""
    largest = np.argsort(-off, kind="stable")[:_SHOWN]
    return largest[off[largest] > 0].tolist()


def _with_texts(
    rows: Sequence[dict[str, Any]], positions: Sequence[int], prepared: Prepared
) -> list[dict[str, Any]]:
    """Returns the rows, each with the "text" of the example at its position."""
    wanted = set(positions)
    texts = {
        int(example["index"]): "\n".join(text.decode() for text in example["texts"].numpy())
        for example in prepared.examples.stream(None)
        if int(example["index"]) in wanted
    }
    return [{**row, "text": texts[index]} for index, row in zip(positions, rows)]


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
