"""Percentile bootstrap intervals of metrics (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_RESAMPLES = 1000
_CONFIDENCE = 0.95


def bootstrap_intervals(
    compute_metrics: Callable[[np.ndarray], Mapping[str, float]], count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return the 95 % confidence interval of every metric under resampling of the examples.

    Args:
      compute_metrics: From the indices of a resample, int64 [count], to its metrics. NaN marks a
        metric that is undefined for a resample, which its interval then ignores.
      count: The number of examples.
      seed: The same seed gives the same intervals.

    Returns:
      {metric: {"low", "high"}}; NaN if the metric is undefined for every resample.

    Example:

    ```python
    bootstrap_intervals(lambda rows: {"accuracy": is_right[rows].mean()}, len(is_right), seed=0)
    ```
    """
    random = np.random.default_rng(seed)
    resampled = [compute_metrics(random.integers(0, count, count)) for _ in range(_RESAMPLES)]
    return {
        name: _interval(np.array([metrics[name] for metrics in resampled])) for name in resampled[0]
    }


def _interval(values: np.ndarray) -> dict[str, float]:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return {"low": np.nan, "high": np.nan}
    tail = (1 - _CONFIDENCE) / 2
    return dict(zip(("low", "high"), map(float, np.quantile(defined, (tail, 1 - tail)))))
