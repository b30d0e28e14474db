"""Figures of predicted numbers on one split, with bootstrap intervals."""

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
    """Returns the figures of a split as plain values.

    Args:
      predicted: Float [n], in the unit of the labels.
      truth: Float [n].
      variance: Of the training labels.
      seed: Of the bootstrap.

    Returns:
      The share of the variance that is explained ("r2", below 0 where the mean of the labels would
      be the better answer), Pearson's and Spearman's correlation as {"value", "low", "high"} with
      95 % intervals; what training minimises as "loss", which is "mean_squared_error" by
      `variance`; "root_mean_squared_error" and "mean_absolute_error" in the labels' unit. What is
      not defined, as a correlation where all labels are equal, is NaN.
    """
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)
    squared = metrics.mean_squared_error(truth, predicted)

    def figures(positions: np.ndarray) -> Mapping[str, float]:
        return _shares(predicted[positions], truth[positions])

    intervals = bootstrap_intervals(figures, len(truth), seed)
    return {
        "examples": len(truth),
        "loss": float(squared / variance),
        **{
            name: {"value": value, **intervals[name]}
            for name, value in _shares(predicted, truth).items()
        },
        "mean_squared_error": float(squared),
        "root_mean_squared_error": float(np.sqrt(squared)),
        "mean_absolute_error": float(metrics.mean_absolute_error(truth, predicted)),
    }


def _shares(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns R2 and the correlations, NaN where the labels, or the answers, are all one number.

    By NumPy: checks of arguments and p-values would take most of the time of a thousand resamples.
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
