"""Whether two examples of like features are alike on a closer look too.

Features of a network that tells classes apart are alike for any two pictures of a kind; what was
resized, encoded anew or slightly changed is alike in itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.examples import SPLITS
from sft_keras.data.prepared import Prepared
from sft_keras.image_serving import prepared_pixels

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
