"""Groups of examples to split alike, where they are not of one class each. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_FEWEST = 10  # a tenth of it is still an example
_QUANTILES = 10


def groups_by_rarest_label(occurrences_by_split: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the group of each example by its rarest label, int64 [n] by split.

    Rare labels decide, because chance alone may leave a split without them; frequent ones come out
    even by themselves (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10, section 3.2, go by
    the rarest label first too). Examples without a label are a group. Groups of fewer than 10
    training examples are merged into one.

    Args:
      occurrences_by_split: int [n, num_classes] each.
    """
    train = occurrences_by_split.get("train")
    if train is None:
        return {name: np.zeros(len(each), int) for name, each in occurrences_by_split.items()}
    rarest_first = np.argsort(train.sum(axis=0), kind="stable")
    groups = {}
    for name, each in occurrences_by_split.items():
        without = np.ones((len(each), 1), bool)  # found where no label is
        groups[name] = np.argmax(np.hstack([each[:, rarest_first] > 0, without]), axis=1)
    return _merged(groups)


def groups_by_size(numbers_by_split: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the group of each number, int64 [n] by split: in which tenth of the training numbers.

    Equal numbers are of one group. Groups of fewer than 10 training examples are merged into one.

    Args:
      numbers_by_split: float [n] each.
    """
    train = numbers_by_split.get("train", np.zeros(0))
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    bounds = np.unique(np.quantile(train, shares)) if len(train) else train

    def group(numbers: np.ndarray) -> np.ndarray:
        # Of both sides, so that those equal to a bound are a group too: stars have few values.
        return sum(np.searchsorted(bounds, numbers, side) for side in ("left", "right"))

    return _merged({name: group(each) for name, each in numbers_by_split.items()})


def _merged(groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Makes one group of those that are small; of all but one, if they are small together too."""
    highest = max((each.max(initial=0) for each in groups.values()), default=0)
    counts = np.bincount(groups.get("train", np.zeros(0, int)), minlength=highest + 1)
    is_small = counts < _FEWEST
    merged = len(counts) if counts[is_small].sum() >= _FEWEST else counts.argmax()
    place = np.where(is_small, merged, np.arange(len(counts)))
    return {name: place[each] for name, each in groups.items()}
