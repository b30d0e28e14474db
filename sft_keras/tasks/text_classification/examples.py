"""Texts shown in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.examples import (
    MAX_MISTAKES,
    MAX_UNCERTAIN,
    ReportExamples,
    _one_label,
    _Rows,
    texts_of,
)


def text_examples(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> ReportExamples:
    """Returns texts with one label each; the arguments are those of `image_examples`."""
    mistakes, uncertain = _one_label(probabilities, prepared, class_names)
    return ReportExamples(*_with_texts([mistakes, uncertain], prepared))


def label_set_examples(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str], threshold: float
) -> ReportExamples:
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
    uncertain = list(map(row, np.argsort(nearest, kind="stable")[:MAX_UNCERTAIN].tolist()))
    return ReportExamples(*_with_texts([mistakes, uncertain], prepared))


def largest_errors(predicted: np.ndarray, truth: np.ndarray, prepared: Prepared) -> ReportExamples:
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
    return ReportExamples(*_with_texts([mistakes], prepared))


def _furthest(off: np.ndarray) -> list[int]:
    """Returns where numbers are above 0, the largest first."""
    largest = np.argsort(-off, kind="stable")[:MAX_MISTAKES]
    return largest[off[largest] > 0].tolist()


def _with_texts(parts: Sequence[_Rows], prepared: Prepared) -> list[list[dict[str, Any]]]:
    """Returns the rows of each part, each with the "text" of its example."""
    texts = texts_of(prepared, {position for part in parts for position, _ in part})
    return [[{**row, "text": texts[position]} for position, row in part] for part in parts]
