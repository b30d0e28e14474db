"""Duplicate and near-duplicate examples.

Duplicates have equal digests. Near-duplicates are found in two steps: the cosine similarity of
backbone features proposes pairs, and a comparison of the contents (thumbnails of images, character
shingles of texts) tells near-duplicates from different examples of the same kind.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sft_keras.data.examples import SPLITS
from sft_keras.data.prepared import Prepared
from sft_keras.tasks.image_signatures import prepared_pixels

_BLOCK = 1024  # examples; similarities are computed in blocks of _BLOCK x _BLOCK
_THUMBNAIL_SIDE = 16  # pixels
_MIN_CORRELATION = 0.9  # of thumbnails
_SHINGLE_LENGTH = 5  # characters
_MIN_JACCARD = 0.5  # of shingle sets
_CACHED_TEXTS = 4096  # whose shingle sets are kept, since a text may occur in many pairs


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two near-duplicate examples.

    Attributes:
      first, second: Positions of the examples; `first` < `second`.
      similarity: Cosine similarity of their features, -1..1.
    """

    first: int
    second: int
    similarity: float


def duplicate_groups(digests: np.ndarray) -> list[list[int]]:
    """Return the groups of two or more examples with equal digests, members in ascending order.

    Args:
      digests: uint8 [n, size].
    """
    groups: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest.tobytes(), []).append(index)
    return [members for members in groups.values() if len(members) > 1]


def near_pairs(
    features: np.ndarray,
    threshold: float,
    confirms: Callable[[int, int], bool] = lambda first, second: True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Pair]:
    """Return the pairs of examples with similar features, most similar first.

    Beside a float32 copy of the features, memory use does not grow with n: similarities are
    computed in blocks, as in a radius-neighbours search, and only those above the threshold are
    kept.

    Args:
      features: float [n, d].
      threshold: Minimum cosine similarity.
      confirms: Returns whether two examples are also similar in content.
      progress: Called with (done, total) examples.
    """
    unit = _unit_vectors(features)
    count = len(unit)
    pairs = []
    for start in range(0, count, _BLOCK):
        rows = unit[start : start + _BLOCK]
        for offset in range(start, count, _BLOCK):
            similarities = rows @ unit[offset : offset + _BLOCK].T
            for row, column, similarity in _above(similarities, threshold, start == offset):
                first, second = start + row, offset + column
                if confirms(first, second):
                    pairs.append(Pair(first, second, similarity))
        progress(min(start + _BLOCK, count), count)
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _unit_vectors(features: np.ndarray) -> np.ndarray:
    """Return centred features scaled to norm 1, float32 [n, d].

    Without centring, the component that all features share makes any two examples look similar.
    """
    mean = features.mean(axis=0)
    unit = np.empty(features.shape, np.float32)
    for start in range(0, len(features), _BLOCK):
        centred = features[start : start + _BLOCK] - mean
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        unit[start : start + _BLOCK] = centred / np.maximum(norms, 1e-12)
    return unit


def _above(
    similarities: np.ndarray, threshold: float, is_diagonal: bool
) -> Iterator[tuple[int, int, float]]:
    """Yield (row, column, similarity) above the threshold; in a diagonal block, each pair once."""
    rows, columns = np.nonzero(similarities >= threshold)
    if is_diagonal:
        is_upper = rows < columns
        rows, columns = rows[is_upper], columns[is_upper]
    values = similarities[rows, columns]
    return zip(rows.tolist(), columns.tolist(), values.tolist())


def near_groups(pairs: list[Pair], count: int) -> list[list[int]]:
    """Return the connected components of the pairs, members in ascending order.

    Args:
      pairs: Pairs of examples.
      count: Number of examples.
    """
    edges = np.array([[pair.first, pair.second] for pair in pairs], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = {}
    for index in np.unique(edges).tolist():
        groups.setdefault(int(component[index]), []).append(index)
    return list(groups.values())


def content_comparison(prepared: Mapping[str, Prepared]) -> Callable[[int, int], bool]:
    """Return a function that compares the contents of two examples.

    Args:
      prepared: The splits, of images or texts.

    Returns:
      Function from two positions in the concatenated splits to whether the contents are similar.
    """
    spec = prepared["train"].examples.stream(None).element_spec
    if "image" in spec:
        thumbnails = np.concatenate([_thumbnails(prepared[name]) for name in SPLITS])

        def correlate(first: int, second: int) -> bool:
            return float(thumbnails[first] @ thumbnails[second]) >= _MIN_CORRELATION

        return correlate
    texts = [text for name in SPLITS for text in _texts(prepared[name])]
    shingles = functools.lru_cache(_CACHED_TEXTS)(lambda index: _shingles(texts[index]))
    return lambda first, second: _jaccard(shingles(first), shingles(second)) >= _MIN_JACCARD


def _thumbnails(prepared: Prepared) -> np.ndarray:
    """Return small greyscale images with mean 0 and norm 1, so that products are correlations."""
    grey = [
        tf.image.resize(
            tf.reduce_mean(tf.cast(pixels, tf.float32), -1, keepdims=True),
            [_THUMBNAIL_SIDE] * 2,
            antialias=True,
        )
        .numpy()
        .ravel()
        for pixels in prepared_pixels(prepared)
    ]
    centred = np.stack(grey) - np.mean(grey, axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def _texts(prepared: Prepared) -> list[str]:
    """Return the normalized text of each example, in stored order."""
    texts = [""] * len(prepared.examples)
    for element in prepared.examples.stream(None):
        texts[int(element["index"])] = _normalized_text(element)
    return texts


def _normalized_text(element: Mapping[str, Any]) -> str:
    """Return an example's text in lower case, without punctuation and repeated spaces."""
    parts = element["texts"] if "texts" in element else element["words"]
    joined = " ".join(part.decode("utf-8", "replace") for part in parts.numpy())
    return " ".join("".join(c if c.isalnum() else " " for c in joined.lower()).split())


def _jaccard(first: set[str], second: set[str]) -> float:
    """Return the Jaccard similarity of two sets, 0..1."""
    return len(first & second) / max(1, len(first | second))


def _shingles(text: str) -> set[str]:
    """Return all substrings of `_SHINGLE_LENGTH` characters."""
    last = max(1, len(text) - _SHINGLE_LENGTH + 1)
    return {text[start : start + _SHINGLE_LENGTH] for start in range(last)}
