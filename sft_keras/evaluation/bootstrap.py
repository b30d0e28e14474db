"""Percentile bootstrap intervals of a split's figures (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_RESAMPLES = 1000
_CONFIDENCE = 0.95


def bootstrap_intervals(
    figures: Callable[[np.ndarray], Mapping[str, float]], count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Returns the 95 % interval of each figure under resampling of the examples.

    Args:
      figures: From the positions of a resample, int64 [count], to its figures; NaN where one is not
        defined for it, which leaves the resample out.
      count: The number of examples.
      seed: The same seed gives the same intervals.

    Returns:
      {name: {"low", "high"}}; NaN where the figure is defined for no resample.
    """
    draw = np.random.default_rng(seed)
    found = [figures(draw.integers(0, count, count)) for _ in range(_RESAMPLES)]
    return {name: _interval(np.array([each[name] for each in found])) for name in found[0]}


def _interval(values: np.ndarray) -> dict[str, float]:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return {"low": np.nan, "high": np.nan}
    tail = (1 - _CONFIDENCE) / 2
    return dict(zip(("low", "high"), map(float, np.quantile(defined, (tail, 1 - tail)))))
