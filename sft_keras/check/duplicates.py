"""Which examples are the same, or nearly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two examples that are nearly the same.

    Attributes:
      first, second: Which, the lower number first.
      similarity: Cosine of their features, -1..1.
    """

    first: int
    second: int
    similarity: float


def groups_of_same(digests: np.ndarray) -> list[list[int]]:
    """Returns the examples of equal digests, of which there are two or more, each in order.

    Args:
      digests: uint8 [n, size].
    """
    found: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        found.setdefault(digest.tobytes(), []).append(index)
    return [members for members in found.values() if len(members) > 1]


def near_pairs(
    features: np.ndarray,
    threshold: float,
    confirms: Callable[[int, int], bool] = lambda first, second: True,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> list[Pair]:
    """Returns the pairs of examples whose features are nearly the same, the most alike first.

    Args:
      features: float [n, d].
      threshold: The least cosine.
      confirms: Whether the two are also alike on a closer look.
      tick: Is told (done, total) examples.
    """
    # Without what all have in common, which would make any two look alike.
    centred = features - features.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = (centred / np.maximum(norms, 1e-12)).astype(np.float32)
    pairs = []
    for start in range(0, len(unit), _ROWS_AT_ONCE):
        rows = unit[start : start + _ROWS_AT_ONCE]
        similar = rows @ unit[start:].T
        for row, column in zip(*np.nonzero(similar >= threshold)):
            first, second = start + int(row), start + int(column)
            if first < second and confirms(first, second):
                pairs.append(Pair(first, second, float(similar[row, column])))
        tick(min(start + _ROWS_AT_ONCE, len(unit)), len(unit))
    return sorted(pairs, key=lambda pair: -pair.similarity)


def groups_of_near(pairs: list[Pair], count: int) -> list[list[int]]:
    """Returns the examples that pairs connect, two or more each, in order.

    Args:
      pairs: Of examples.
      count: How many examples there are.
    """
    edges = np.array([[pair.first, pair.second] for pair in pairs], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    touched = np.unique(edges)
    found: dict[int, list[int]] = {}
    for index in touched.tolist():
        found.setdefault(int(group[index]), []).append(index)
    return list(found.values())
