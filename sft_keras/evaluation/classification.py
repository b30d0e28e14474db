"""Figures of a classifier on one split, by scikit-learn, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from sft_keras.evaluation.bootstrap import bootstrap_intervals


def classification_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    top_k: int,
    seed: int,
) -> dict[str, Any]:
    """Returns the figures of a split as plain values.

    Args:
      probabilities: Float [n, num_classes], rows summing to 1.
      labels: Int [n].
      class_names: Names in the order of the columns.
      top_k: The k of top-k accuracy, left out unless there are more classes.
      seed: Of the bootstrap.

    Returns:
      Accuracy and macro F1 as {"value", "low", "high"} with 95 % percentile bootstrap intervals
      (Efron & Tibshirani 1993, chapter 13), the mean negative log-likelihood as "loss", top-k
      accuracy, macro and weighted averages, precision, recall, F1 and support per class, and the
      confusion matrix with true classes as rows. A ratio without examples counts as 0.
    """
    known = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=known, zero_division=0
    )
    intervals = _bootstrap(labels, predicted, len(known), seed)
    return {
        "examples": len(labels),
        # float64: scikit-learn warns of rows that do not sum to 1 to double precision
        "loss": float(metrics.log_loss(labels, _normalised(probabilities), labels=known)),
        "accuracy": {
            "value": float(metrics.accuracy_score(labels, predicted)),
            **intervals["accuracy"],
        },
        "macro_f1": {"value": float(f1.mean()), **intervals["macro_f1"]},
        "top_k": _top_k(probabilities, labels, known, top_k),
        "macro": _averages(labels, predicted, known, "macro"),
        "weighted": _averages(labels, predicted, known, "weighted"),
        "per_class": [
            {
                "name": name,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(class_names)
        ],
        "confusion_matrix": metrics.confusion_matrix(labels, predicted, labels=known).tolist(),
    }


def _normalised(probabilities: np.ndarray) -> np.ndarray:
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


def _top_k(
    probabilities: np.ndarray, labels: np.ndarray, known: np.ndarray, k: int
) -> dict[str, float]:
    if len(known) <= k:
        return {}
    return {str(k): float(metrics.top_k_accuracy_score(labels, probabilities, k=k, labels=known))}


def _averages(
    labels: np.ndarray, predicted: np.ndarray, known: np.ndarray, average: str
) -> dict[str, float]:
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=known, average=average, zero_division=0
    )
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def _bootstrap(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, seed: int
) -> dict[str, dict[str, float]]:
    """Returns the intervals of accuracy and macro F1 under resampling of the examples.

    Counts per class are all that either figure needs, so a thousand resamples cost milliseconds.
    A class that a resample lacks, though it occurs in the split, has no F1 there and is left out of
    that mean: as a 0 it would pull the whole interval below the figure.
    """
    occurring = len(np.union1d(labels, predicted)) / num_classes

    def figures(positions: np.ndarray) -> dict[str, float]:
        true, guess = labels[positions], predicted[positions]
        hits = np.bincount(true[true == guess], minlength=num_classes)
        total = np.bincount(true, minlength=num_classes) + np.bincount(guess, minlength=num_classes)
        return {
            "accuracy": hits.sum() / len(positions),
            "macro_f1": occurring * (2 * hits[total > 0] / total[total > 0]).mean(),
        }

    return bootstrap_intervals(figures, len(labels), seed)
