"""Loss and metrics of multi-label classification, with bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from sklearn import metrics

from sft_keras.data.examples import Examples
from sft_keras.evaluation.bootstrap import bootstrap_intervals, wilson_interval


def true_labels(examples: Examples) -> np.ndarray:
    """Return which labels each example of a multi-label data set has, bool [n, num_classes]."""
    if examples.occurrences is None:
        raise TypeError(f"Examples of a multi-label split need occurrences: {examples.name}")
    return np.greater(examples.occurrences, 0)


def multi_label_metrics(
    probabilities: np.ndarray,
    truth: np.ndarray,
    class_names: Sequence[str],
    threshold: float,
    seed: int,
) -> dict[str, Any]:
    """Return the metrics of a split as plain values.

    Args:
      probabilities: Float [n, num_classes], each in 0..1.
      truth: Bool [n, num_classes].
      class_names: Class names in the order of the columns.
      threshold: Labels with probabilities above it are predicted.
      seed: Seed of the bootstrap.

    Returns:
      Micro F1 (over all decisions), macro F1 (the mean over classes) and the share of examples with
      exactly the right labels ("exact_match") as {"value", "low", "high"} with 95 % intervals; the
      mean binary cross-entropy as "loss"; "mean_average_precision" over the classes that occur,
      independent of the threshold; macro and weighted averages; precision, recall, F1 and support
      per class. Ratios with a denominator of 0 count as 0.
    """
    predicted = probabilities > threshold
    exact_match = float(metrics.accuracy_score(truth, predicted))
    intervals = bootstrap_intervals(_make_resampled_metrics(predicted, truth), len(truth), seed)

    def scores(average: str | None) -> Any:
        return metrics.precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=0
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
        "exact_match": {"value": exact_match, **wilson_interval(exact_match, len(truth))},
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
    """Return the mean over the classes that occur, as others have no ranking; NaN if none does."""
    occurring = truth.any(axis=0)
    if not occurring.any():
        return float("nan")
    return float(
        metrics.average_precision_score(
            truth[:, occurring], probabilities[:, occurring], average="macro"
        )
    )


def _make_resampled_metrics(
    predicted: np.ndarray, truth: np.ndarray
) -> Callable[[np.ndarray], Mapping[str, float]]:
    """Return the function from a resample to its metrics, computed from counts per class.

    As in `classification_metrics`, the mean over classes omits those missing from a resample.
    """
    hits = (predicted & truth).astype(np.float64)
    total = predicted.astype(np.float64) + truth
    occurring = total.any(axis=0).mean()

    def resampled_metrics(positions: np.ndarray) -> Mapping[str, float]:
        repeats = np.bincount(positions, minlength=len(truth))
        hit, sums = repeats @ hits, repeats @ total
        defined = sums > 0
        f1 = 2 * hit[defined] / sums[defined]
        return {
            "micro_f1": 2 * hit.sum() / sums.sum() if defined.any() else 0.0,
            "macro_f1": occurring * f1.mean() if defined.any() else 0.0,
        }

    return resampled_metrics


class LabelwiseCrossentropy(keras.losses.BinaryCrossentropy):
    """Binary cross-entropy with one value per label, so that sample weights can be per label.

    Keras' own loss has one value per example, the mean over its labels. This one has shape [batch,
    num_classes] before reduction; without sample weights the mean is the same.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Return the loss of each label, [batch, num_classes]."""
        expand = keras.ops.expand_dims
        return super().call(expand(y_true, -1), expand(y_pred, -1))


def decision_accuracy(threshold: float) -> keras.metrics.Metric:
    """Return the metric "accuracy": the share of correct decisions over examples and labels.

    Args:
      threshold: Labels with probabilities above it are predicted. The metric itself takes logits.
    """
    logit_threshold = math.log(threshold / (1 - threshold))

    def is_correct(y_true: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        correct = keras.ops.equal(y_true > 0.5, logits > logit_threshold)
        return keras.ops.mean(keras.ops.cast(correct, "float32"), axis=-1)

    return keras.metrics.MeanMetricWrapper(is_correct, name="accuracy")
