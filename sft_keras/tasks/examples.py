"""Which examples of a split a report shows: the worst mistakes, and the least certain answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_keras.data.prepared import Prepared

MAX_MISTAKES, MAX_UNCERTAIN = 24, 12


@dataclasses.dataclass(frozen=True)
class ReportExamples:
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
    worst = wrong[np.argsort(-first[wrong], kind="stable")][:MAX_MISTAKES]
    closest = np.argsort(first - second, kind="stable")[:MAX_UNCERTAIN]

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


def texts_of(prepared: Prepared, positions: set[int]) -> dict[int, str]:
    """Returns the texts at some positions of a split, of a pair with a line break between."""
    return {
        int(example["index"]): "\n".join(text.decode() for text in example["texts"].numpy())
        for example in prepared.examples.stream(None)
        if int(example["index"]) in positions
    }
