"""Examples of text classification and regression shown in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sft_keras.data.prepared import Prepared
from sft_keras.tasks.examples import (
    MAX_MISTAKES,
    MAX_UNCERTAIN,
    ReportExamples,
    Rows,
    single_label_rows,
    texts_of,
)
from sft_keras.tasks.text_classification.multi_label_metrics import true_labels


def text_examples(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str]
) -> ReportExamples:
    """Return the most confident mistakes and the smallest margins, with their texts.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split.
      class_names: Class names in the order of the columns.
    """
    mistakes, uncertain = single_label_rows(probabilities, prepared, class_names)
    return _with_texts(prepared, mistakes, uncertain)


def label_set_examples(
    probabilities: np.ndarray, prepared: Prepared, class_names: Sequence[str], threshold: float
) -> ReportExamples:
    """Return the worst mistakes of a multi-label model and its least certain texts.

    A mistake is a text with a wrong or a missing label; mistakes are ordered by the largest error
    of a wrongly decided label's probability. Certainty is the smallest distance of a label's
    probability from the threshold.

    Args:
      probabilities: Float [n, num_classes].
      prepared: The split; its examples' occurrences are the true labels.
      class_names: Class names in the order of the columns.
      threshold: Labels with probabilities above it are predicted.
    """
    truth = true_labels(prepared.examples)
    predicted = probabilities > threshold
    errors = np.where(predicted == truth, 0, np.abs(truth - probabilities)).max(axis=1)
    distances = np.abs(probabilities - threshold).min(axis=1)

    def join_names(chosen: np.ndarray) -> str:
        return ", ".join(np.array(class_names, object)[chosen]) or "no label"

    def row(position: int) -> tuple[int, dict[str, Any]]:
        return position, {
            "id": prepared.examples.ids[position],
            "true": join_names(truth[position]),
            "predicted": join_names(predicted[position]),
        }

    mistakes = list(map(row, _largest(errors)))
    uncertain = list(map(row, np.argsort(distances, kind="stable")[:MAX_UNCERTAIN].tolist()))
    return _with_texts(prepared, mistakes, uncertain)


def largest_errors(predicted: np.ndarray, truth: np.ndarray, prepared: Prepared) -> ReportExamples:
    """Return the texts with the largest absolute errors of a regression.

    Args:
      predicted: Float [n], in stored order.
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
        for position in _largest(np.abs(predicted - truth))
    ]
    return _with_texts(prepared, mistakes, [])


def _largest(errors: np.ndarray) -> list[int]:
    """Return the positions of the largest errors above 0, largest first."""
    positions = np.argsort(-errors, kind="stable")[:MAX_MISTAKES]
    positive: list[int] = positions[errors[positions] > 0].tolist()
    return positive


def _with_texts(prepared: Prepared, mistakes: Rows, uncertain: Rows) -> ReportExamples:
    """Return the rows, each with the "text" of its example."""
    texts = texts_of(prepared, {position for position, _ in [*mistakes, *uncertain]})

    def add_texts(rows: Rows) -> list[dict[str, Any]]:
        return [{**row, "text": texts[position]} for position, row in rows]

    return ReportExamples(add_texts(mistakes), add_texts(uncertain))
