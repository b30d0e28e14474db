"""Metrics of regression, with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics

from sft_keras.evaluation.bootstrap import bootstrap_intervals


def regression_metrics(
    predicted: np.ndarray, truth: np.ndarray, variance: float, seed: int
) -> dict[str, Any]:
    """Return the metrics of a split as plain values.

    Args:
      predicted: Float [n], in the unit of the labels.
      truth: Float [n].
      variance: Variance of the training labels.
      seed: Seed of the bootstrap.

    Returns:
      R2 ("r2", negative if predicting the mean label would be better) and the Pearson and Spearman
      correlations as {"value", "low", "high"} with 95 % intervals; the training loss
      "mean_squared_error" / `variance` as "loss"; "mean_squared_error",
      "root_mean_squared_error" and "mean_absolute_error" in the labels' unit. Undefined metrics,
      such as a correlation of constant labels, are NaN.
    """
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)
    squared = metrics.mean_squared_error(truth, predicted)

    def resampled_metrics(positions: np.ndarray) -> Mapping[str, float]:
        return _unitless_metrics(predicted[positions], truth[positions])

    intervals = bootstrap_intervals(resampled_metrics, len(truth), seed)
    return {
        "examples": len(truth),
        "loss": float(squared / variance),
        **{
            name: {"value": value, **intervals[name]}
            for name, value in _unitless_metrics(predicted, truth).items()
        },
        "mean_squared_error": float(squared),
        "root_mean_squared_error": float(np.sqrt(squared)),
        "mean_absolute_error": float(metrics.mean_absolute_error(truth, predicted)),
    }


def _unitless_metrics(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return R2 and the correlations, NaN if all labels, or all predictions, are equal.

    NumPy instead of SciPy: argument checks and p-values would take most of the time of a thousand
    resamples.
    """
    if np.ptp(truth) == 0:
        return dict.fromkeys(("r2", "pearson", "spearman"), np.nan)
    return {
        "r2": float(1 - np.mean((truth - predicted) ** 2) / np.var(truth)),
        "pearson": _correlation(predicted, truth),
        "spearman": _correlation(stats.rankdata(predicted), stats.rankdata(truth)),
    }


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])
