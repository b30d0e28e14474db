"""Examples shown in the report: the worst mistakes and the least certain predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_keras.data.prepared import Prepared

MAX_MISTAKES, MAX_UNCERTAIN = 24, 12


@dataclasses.dataclass(frozen=True)
class ReportExamples:
    """Examples of a split for the report, each a dict of plain values.

    Every row has an "id". Optional keys: "true" and "predicted"; "right", whether the prediction is
    correct where comparing these two does not tell; "probability" of the prediction, in 0..1;
    "second" and "second_probability" of the runner-up; "text"; "marked", a text in parts; and
    "picture", the index of its image in `pictures`.

    Attributes:
      mistakes: Wrong predictions, worst first.
      uncertain: The least certain predictions, right or wrong, least certain first.
      pictures: PNG-encoded images.
    """

    mistakes: list[dict[str, Any]]
    uncertain: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    pictures: list[bytes] = dataclasses.field(default_factory=list)


Rows = list[tuple[int, dict[str, Any]]]
"""Report rows, each after the position of its example in the split."""


def single_label_rows(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> tuple[Rows, Rows]:
    """Return the most confident mistakes and the predictions with the smallest margin.

    Args:
      probabilities: Float [n, num_classes], num_classes of at least 2.
      prepared: The split; its examples' labels are the truth.
      class_names: Class names in the order of the columns.

    Returns:
      Mistakes by falling probability, at most `MAX_MISTAKES`; and predictions by rising margin over
      the runner-up, at most `MAX_UNCERTAIN`.
    """
    labels = prepared.examples.labels
    order = np.argsort(-probabilities, axis=1, kind="stable")
    first, second = (
        np.take_along_axis(probabilities, order[:, rank : rank + 1], axis=1)[:, 0]
        for rank in (0, 1)
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

    def runner_up(position: int) -> dict[str, Any]:
        return {
            "second": class_names[order[position, 1]],
            "second_probability": float(second[position]),
        }

    return (
        [(position, row(position)) for position in worst.tolist()],
        [(position, row(position) | runner_up(position)) for position in closest.tolist()],
    )


def texts_of(prepared: Prepared, positions: set[int]) -> dict[int, str]:
    """Return the texts of some examples; the two texts of a pair are joined with a line break.

    Args:
      prepared: The split.
      positions: Positions of the examples in the split.

    Returns:
      {position: text}.
    """
    return {
        int(example["index"]): "\n".join(text.decode() for text in example["texts"].numpy())
        for example in prepared.examples.stream(None)
        if int(example["index"]) in positions
    }
