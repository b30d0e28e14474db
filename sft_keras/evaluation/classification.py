"""Metrics of a classifier on one split, by scikit-learn, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from sft_keras.evaluation.bootstrap import bootstrap_intervals, wilson_interval


def classification_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    top_k: int,
    seed: int,
) -> dict[str, Any]:
    """Return the metrics of a split as plain values.

    Args:
      probabilities: Float [n, num_classes]; rows sum to 1.
      labels: Class indices, int [n].
      class_names: The names of the classes, in the order of the columns.
      top_k: The k of top-k accuracy, which is only included if there are more than k classes.
      seed: The seed of the bootstrap.

    Returns:
      Accuracy and macro F1 as {"value", "low", "high"} with the 95 % intervals of
      `sft_keras.evaluation.bootstrap`, the mean negative log-likelihood as "loss", top-k
      accuracy, macro and weighted averages, precision, recall, F1 and support per class, and the
      confusion matrix with true classes as rows. A ratio without examples counts as 0.

    Example:

    ```python
    metrics = classification_metrics(probabilities, labels, ["cat", "dog"], top_k=5, seed=0)
    metrics["accuracy"]  # {"value": 0.93, "low": 0.91, "high": 0.95}
    ```
    """
    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    accuracy = float(metrics.accuracy_score(labels, predicted))
    return {
        "examples": len(labels),
        # float64: scikit-learn warns if rows do not sum to 1 in double precision
        "loss": float(metrics.log_loss(labels, _normalized(probabilities), labels=classes)),
        "accuracy": {"value": accuracy, **wilson_interval(accuracy, len(labels))},
        "macro_f1": {
            "value": float(f1.mean()),
            **_macro_f1_interval(labels, predicted, len(classes), seed),
        },
        "top_k": _top_k(probabilities, labels, classes, top_k),
        "macro": _averages(labels, predicted, classes, "macro"),
        "weighted": _averages(labels, predicted, classes, "weighted"),
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
        "confusion_matrix": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def _normalized(probabilities: np.ndarray) -> np.ndarray:
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


def _top_k(
    probabilities: np.ndarray, labels: np.ndarray, classes: np.ndarray, k: int
) -> dict[str, float]:
    if len(classes) <= k:
        return {}
    return {str(k): float(metrics.top_k_accuracy_score(labels, probabilities, k=k, labels=classes))}


def _averages(
    labels: np.ndarray, predicted: np.ndarray, classes: np.ndarray, average: str
) -> dict[str, float]:
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, average=average, zero_division=0
    )
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


def _macro_f1_interval(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, seed: int
) -> dict[str, float]:
    """Return the interval of macro F1 under resampling of the examples.

    It needs only counts per class, so a thousand resamples take milliseconds. A class that occurs
    in the split but not in a resample has no F1 there and is excluded from that mean: as a 0, it
    would pull the whole interval below the metric.
    """
    occurring = len(np.union1d(labels, predicted)) / num_classes

    def compute_metrics(rows: np.ndarray) -> dict[str, float]:
        true, guessed = labels[rows], predicted[rows]
        hits = np.bincount(true[true == guessed], minlength=num_classes)
        total = np.bincount(true, minlength=num_classes) + np.bincount(
            guessed, minlength=num_classes
        )
        return {"macro_f1": occurring * (2 * hits[total > 0] / total[total > 0]).mean()}

    return bootstrap_intervals(compute_metrics, len(labels), seed)["macro_f1"]
