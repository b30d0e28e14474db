"""Figures of a model that gives any number of labels, by scikit-learn, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from sklearn import metrics

from sft_keras.evaluation.bootstrap import bootstrap_intervals


def multi_label_metrics(
    probabilities: np.ndarray,
    truth: np.ndarray,
    class_names: Sequence[str],
    threshold: float,
    seed: int,
) -> dict[str, Any]:
    """Returns the figures of a split as plain values.

    Args:
      probabilities: Float [n, num_classes], each in 0..1.
      truth: Bool [n, num_classes].
      class_names: Names in the order of the columns.
      threshold: A label is given where its probability is above.
      seed: Of the bootstrap.

    Returns:
      Micro F1 (over all decisions), macro F1 (the mean over the classes) and the share of examples
      whose labels are all right ("exact_match") as {"value", "low", "high"} with 95 % intervals;
      the mean binary cross-entropy as "loss"; "mean_average_precision" over the classes that occur,
      which no threshold decides on; macro and weighted averages; precision, recall, F1 and support
      per class. A ratio without examples counts as 0.
    """
    given = probabilities > threshold
    intervals = bootstrap_intervals(_resampled(given, truth), len(truth), seed)

    def scores(average: str | None) -> Any:
        return metrics.precision_recall_fscore_support(
            truth, given, average=average, zero_division=0
        )

    precision, recall, f1, support = scores(None)
    # Binary cross-entropy is a log loss over all decisions; float64, or it would be clipped sooner.
    loss = metrics.log_loss(
        truth.ravel(), probabilities.ravel().astype(np.float64), labels=[False, True]
    )
    return {
        "examples": len(truth),
        "counted": "labels",
        "loss": float(loss),
        "micro_f1": {"value": float(scores("micro")[2]), **intervals["micro_f1"]},
        "macro_f1": {"value": float(f1.mean()), **intervals["macro_f1"]},
        "exact_match": {
            "value": float(metrics.accuracy_score(truth, given)),
            **intervals["exact_match"],
        },
        "mean_average_precision": _mean_average_precision(probabilities, truth),
        "macro": _averages(scores("macro")),
        "weighted": _averages(scores("weighted")),
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
    }


def _averages(scores: Sequence[float]) -> dict[str, float]:
    return dict(zip(("precision", "recall", "f1"), map(float, scores[:3])))


def _mean_average_precision(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean over the classes that occur, NaN for none: of others there is no ranking."""
    occurring = truth.any(axis=0)
    if not occurring.any():
        return float("nan")
    return float(
        metrics.average_precision_score(
            truth[:, occurring], probabilities[:, occurring], average="macro"
        )
    )


def _resampled(given: np.ndarray, truth: np.ndarray) -> Any:
    """Returns the function from a resample to its figures, which go by counts per class alone.

    As in `classification_metrics`, a class that a resample lacks is left out of that mean.
    """
    hits = (given & truth).astype(np.float64)
    total = given.astype(np.float64) + truth
    is_exact = (given == truth).all(axis=1)
    occurring = total.any(axis=0).mean()

    def figures(positions: np.ndarray) -> Mapping[str, float]:
        times = np.bincount(positions, minlength=len(truth))
        hit, all_of = times @ hits, times @ total
        there = all_of > 0
        return {
            "micro_f1": 2 * hit.sum() / all_of.sum() if there.any() else 0.0,
            "macro_f1": occurring * (2 * hit[there] / all_of[there]).mean() if there.any() else 0.0,
            "exact_match": times @ is_exact / len(truth),
        }

    return figures


class LabelwiseCrossentropy(keras.losses.BinaryCrossentropy):
    """Binary cross-entropy of each label, so that a sample weight may be that of a label.

    Keras' own has a value an example, the mean over its labels; here the mean over examples and
    labels is taken at once, which without weights is the same.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the loss of each label, [batch, num_classes]."""
        expand = keras.ops.expand_dims
        return super().call(expand(y_true, -1), expand(y_pred, -1))


def decision_accuracy(threshold: float) -> keras.metrics.Metric:
    """Returns the metric "accuracy": over all labels, the share that is rightly given or not.

    Args:
      threshold: A label is given where its probability is above; the metric is of logits.
    """
    bound = math.log(threshold / (1 - threshold))

    def is_right(y_true: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        right = keras.ops.equal(y_true > 0.5, logits > bound)
        return keras.ops.mean(keras.ops.cast(right, "float32"), axis=-1)

    return keras.metrics.MeanMetricWrapper(is_right, name="accuracy")
