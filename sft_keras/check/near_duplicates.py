"""Which examples are the same, or nearly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sft_keras.data.examples import SPLITS
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.image_signatures import prepared_pixels

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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Pair]:
    """Returns the pairs of examples whose features are nearly the same, the most alike first.

    Args:
      features: float [n, d].
      threshold: The least cosine.
      confirms: Whether the two are also alike on a closer look.
      progress: Called with (done, total) examples.
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
        progress(min(start + _ROWS_AT_ONCE, len(unit)), len(unit))
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


_SIDE = 16  # pixels of a thumbnail


_CORRELATION = 0.9


_SHINGLE = 5  # characters


_OVERLAP = 0.5


def closer_look(prepared: Mapping[str, Prepared]) -> Callable[[int, int], bool]:
    """Returns whether two examples, counted over all splits, are nearly the same."""
    spec = prepared["train"].examples.stream(None).element_spec
    if "image" in spec:
        thumbnails = np.concatenate([_thumbnails(prepared[name]) for name in SPLITS])
        return lambda first, second: float(thumbnails[first] @ thumbnails[second]) >= _CORRELATION
    texts = [text for name in SPLITS for text in _texts(prepared[name])]
    return lambda first, second: _overlap(texts[first], texts[second]) >= _OVERLAP


def _thumbnails(prepared: Prepared) -> np.ndarray:
    """Returns each image small and grey, of mean 0 and norm 1: products are correlations."""
    grey = [
        tf.image.resize(
            tf.reduce_mean(tf.cast(pixels, tf.float32), -1, keepdims=True),
            [_SIDE] * 2,
            antialias=True,
        )
        .numpy()
        .ravel()
        for pixels in prepared_pixels(prepared)
    ]
    centred = np.stack(grey) - np.mean(grey, axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def _texts(prepared: Prepared) -> list[str]:
    found = [""] * len(prepared.examples)
    for element in prepared.examples.stream(None):
        found[int(element["index"])] = _as_text(element)
    return found


def _as_text(element: Mapping[str, Any]) -> str:
    values = element["texts"] if "texts" in element else element["words"]
    joined = " ".join(part.decode("utf-8", "replace") for part in values.numpy())
    return " ".join("".join(c if c.isalnum() else " " for c in joined.lower()).split())


def _overlap(first: str, second: str) -> float:
    """Returns the share of runs of characters that two texts have in common (Jaccard)."""
    one, other = _shingles(first), _shingles(second)
    return len(one & other) / max(1, len(one | other))


def _shingles(text: str) -> set[str]:
    return {text[start : start + _SHINGLE] for start in range(max(1, len(text) - _SHINGLE + 1))}
