"""Strata for examples that do not have exactly one class each. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_MIN_STRATUM = 10  # examples, so that a tenth of them is at least one
_QUANTILES = 10


def groups_by_rarest_label(occurrences_by_split: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the stratum of each multi-label example: its rarest label, int64 [n] per split.

    Rare labels decide because a random split may miss them, while frequent labels even out by
    themselves. (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, section 3.2, also start
    with the rarest label.) Examples without a label are one stratum. Strata of fewer than 10
    training examples are merged into one.

    Args:
      occurrences_by_split: int [n, num_classes] per split.
    """
    train = occurrences_by_split.get("train")
    if train is None:
        return {name: np.zeros(len(rows), int) for name, rows in occurrences_by_split.items()}
    rarest_first = np.argsort(train.sum(axis=0), kind="stable")
    strata = {}
    for name, rows in occurrences_by_split.items():
        no_label = np.ones((len(rows), 1), bool)  # the first True of rows without a label
        strata[name] = np.argmax(np.hstack([rows[:, rarest_first] > 0, no_label]), axis=1)
    return _merge_small(strata)


def groups_by_size(numbers_by_split: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the stratum of each numeric label: its decile in training, int64 [n] per split.

    Equal numbers are in the same stratum. Strata of fewer than 10 training examples are merged.

    Args:
      numbers_by_split: float [n] per split.
    """
    train = numbers_by_split.get("train", np.zeros(0))
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    bounds = np.unique(np.quantile(train, shares)) if len(train) else train

    def stratum(numbers: np.ndarray) -> np.ndarray:
        # Searching from both sides makes numbers equal to a bound a stratum of their own: ratings
        # in stars, for example, have few different values.
        left, right = (np.searchsorted(bounds, numbers, side) for side in ("left", "right"))
        return left + right

    return _merge_small({name: stratum(numbers) for name, numbers in numbers_by_split.items()})


def _merge_small(strata: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Merge small strata into one; if that is still small, merge it into the largest stratum."""
    highest = max((rows.max(initial=0) for rows in strata.values()), default=0)
    counts = np.bincount(strata.get("train", np.zeros(0, int)), minlength=highest + 1)
    is_small = counts < _MIN_STRATUM
    merged = len(counts) if counts[is_small].sum() >= _MIN_STRATUM else counts.argmax()
    merged_strata = np.where(is_small, merged, np.arange(len(counts)))
    return {name: merged_strata[rows] for name, rows in strata.items()}
