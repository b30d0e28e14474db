"""Which examples of a split a report shows: the worst mistakes, and the least certain answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.image_serving import prepared_pixels

MISTAKES_SHOWN, UNCERTAIN_SHOWN = 24, 12


@dataclasses.dataclass(frozen=True)
class ShownExamples:
    """Examples of a split, each a row of plain values with its "id".

    A row may have "true", "predicted", "right" where that is more than these being the same, and
    the "probability" in 0..1; "second" and
    "second_probability", what was the next most probable; "text"; "marked", a text in parts; and
    "picture", the place of its picture in `pictures`.

    Attributes:
      mistakes: Wrong answers, the worst first.
      uncertain: Answers, right or wrong, that were least certain.
      pictures: PNG files.
    """

    mistakes: list[dict[str, Any]]
    uncertain: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    pictures: list[bytes] = dataclasses.field(default_factory=list)


def shown_images(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> ShownExamples:
    """Returns images with one label each.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split.
      class_names: Names in the order of the columns.
    """
    parts = _one_label(probabilities, prepared, class_names)
    positions = sorted({position for part in parts for position, _ in part})
    wanted = {position: number for number, position in enumerate(positions)}
    pictures = [
        tf.io.encode_png(pixels).numpy()
        for position, pixels in enumerate(prepared_pixels(prepared))
        if position in wanted
    ]
    mistakes, uncertain = (
        [{**row, "picture": wanted[position]} for position, row in part] for part in parts
    )
    return ShownExamples(mistakes, uncertain, pictures)


def shown_texts(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> ShownExamples:
    """Returns texts with one label each; the arguments are those of `shown_images`."""
    mistakes, uncertain = _one_label(probabilities, prepared, class_names)
    return ShownExamples(*_with_texts([mistakes, uncertain], prepared))


def shown_label_sets(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str], threshold: float
) -> ShownExamples:
    """Returns texts with any number of labels.

    A mistake is a wrong label or the lack of a right one; the worst is that whose probability is
    furthest from what it should be. Least certain is the text with a label nearest the threshold.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split; its examples' occurrences are the truth.
      class_names: Names in the order of the columns.
      threshold: A label is given where its probability is above.
    """
    truth = prepared.examples.occurrences > 0
    given = probabilities > threshold
    off = np.where(given == truth, 0, np.abs(truth - probabilities)).max(axis=1)
    nearest = np.abs(probabilities - threshold).min(axis=1)

    def named(chosen: np.ndarray) -> str:
        return ", ".join(np.array(class_names, object)[chosen]) or "no label"

    def row(position: int) -> tuple[int, dict[str, Any]]:
        return position, {
            "id": prepared.examples.ids[position],
            "true": named(truth[position]),
            "predicted": named(given[position]),
        }

    mistakes = list(map(row, _furthest(off)))
    uncertain = list(map(row, np.argsort(nearest, kind="stable")[:UNCERTAIN_SHOWN].tolist()))
    return ShownExamples(*_with_texts([mistakes, uncertain], prepared))


def largest_errors(predicted: np.ndarray, truth: np.ndarray, prepared: Prepared) -> ShownExamples:
    """Returns the texts whose predicted number is furthest from the true one.

    Args:
      predicted: Float [n].
      truth: Float [n].
      prepared: The split.
    """
    mistakes = [
        (
            position,
            {
                "id": prepared.examples.ids[position],
                "true": f"{truth[position]:.5g}",
                "predicted": f"{predicted[position]:.5g}",
            },
        )
        for position in _furthest(np.abs(predicted - truth))
    ]
    return ShownExamples(*_with_texts([mistakes], prepared))


def _furthest(off: np.ndarray) -> list[int]:
    """Returns where numbers are above 0, the largest first."""
    largest = np.argsort(-off, kind="stable")[:MISTAKES_SHOWN]
    return largest[off[largest] > 0].tolist()


_Rows = list[tuple[int, dict[str, Any]]]  # each with the position of its example in the split


def _one_label(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> tuple[_Rows, _Rows]:
    """Returns the most confident mistakes, and the answers with the closest second."""
    labels = prepared.examples.labels
    order = np.argsort(-probabilities, axis=1, kind="stable")
    first, second = (
        np.take_along_axis(probabilities, order[:, place : place + 1], axis=1)[:, 0]
        for place in (0, 1)
    )
    wrong = np.flatnonzero(order[:, 0] != labels)
    worst = wrong[np.argsort(-first[wrong], kind="stable")][:MISTAKES_SHOWN]
    closest = np.argsort(first - second, kind="stable")[:UNCERTAIN_SHOWN]

    def row(position: int) -> dict[str, Any]:
        return {
            "id": prepared.examples.ids[position],
            "true": class_names[labels[position]],
            "predicted": class_names[order[position, 0]],
            "probability": float(first[position]),
        }

    def next_best(position: int) -> dict[str, Any]:
        return {
            "second": class_names[order[position, 1]],
            "second_probability": float(second[position]),
        }

    return (
        [(position, row(position)) for position in worst.tolist()],
        [(position, row(position) | next_best(position)) for position in closest.tolist()],
    )


def _with_texts(parts: Sequence[_Rows], prepared: Prepared) -> list[list[dict[str, Any]]]:
    """Returns the rows of each part, each with the "text" of its example."""
    texts = texts_of(prepared, {position for part in parts for position, _ in part})
    return [[{**row, "text": texts[position]} for position, row in part] for part in parts]


def texts_of(prepared: Prepared, positions: set[int]) -> dict[int, str]:
    """Returns the texts at some positions of a split, of a pair with a line break between."""
    return {
        int(example["index"]): "\n".join(text.decode() for text in example["texts"].numpy())
        for example in prepared.examples.stream(None)
        if int(example["index"]) in positions
    }
