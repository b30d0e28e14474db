"""Confidence intervals of metrics.

Shares of independent examples, such as accuracy and exact match, have Wilson score intervals
(Wilson 1927; Brown, Cai & DasGupta 2001, Statistical Science 16(2), section 3.1.1, which recommends
them for small samples). Other metrics have percentile bootstrap intervals (Efron & Tibshirani 1993,
chapter 13), over texts or sentences where those are the independent units.

Where every example has the best or the worst score, all resamples are alike and the bootstrap would
claim certainty. There, the other bound is that of the Wilson interval of n out of n examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_RESAMPLES = 1000
_CONFIDENCE = 0.95
_QUANTILE = 1.959964  # of the normal distribution, for 95 %

KINDS = (
    "95 % intervals: Wilson score intervals for shares of examples (accuracy, exact match), "
    "percentile bootstrap intervals for other metrics. Where all examples have the best or the "
    "worst score, the other bound is the Wilson bound for that many examples."
)
"""What the intervals of a report are, for its readers."""


def wilson_interval(share: float, count: int) -> dict[str, float]:
    """Return the 95 % Wilson score interval of a share.

    Args:
      share: The share of successes, 0..1; for a mean of scores between 0 and 1, which vary at most
        as much as successes and failures, the interval is conservative.
      count: The number of independent examples.

    Returns:
      {"low", "high"}; NaN without examples.

    Example:
      >>> {name: round(value, 3) for name, value in wilson_interval(1.0, 20).items()}
      {'low': 0.839, 'high': 1.0}
    """
    if not count:
        return {"low": np.nan, "high": np.nan}
    square = _QUANTILE**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _QUANTILE * np.sqrt(share * (1 - share) / count + square / (4 * count**2))
    half /= 1 + square / count
    # Exact at the ends, where rounding could exclude the share itself.
    low = 0.0 if share == 0 else float(centre - half)
    high = 1.0 if share == 1 else float(centre + half)
    return {"low": low, "high": high}


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
        name: _interval(np.array([metrics[name] for metrics in resampled]), count)
        for name in resampled[0]
    }


def _interval(values: np.ndarray, count: int) -> dict[str, float]:
    """Return the interval of a metric.

    Args:
      values: The metric of each resample.
      count: The number of examples.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return {"low": np.nan, "high": np.nan}
    for extreme in (0.0, 1.0):
        if np.allclose(defined, extreme, rtol=0, atol=1e-12):
            return wilson_interval(extreme, count)
    tail = (1 - _CONFIDENCE) / 2
    return dict(zip(("low", "high"), map(float, np.quantile(defined, (tail, 1 - tail)))))
