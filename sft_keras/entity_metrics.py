"""Figures of tagged words, as seqeval counts entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from seqeval.metrics import sequence_labeling

_RESAMPLES = 1000
_CONFIDENCE = 0.95
Tags = Sequence[Sequence[str]]
"""The tags of the words of some sentences, in IOB2."""


def entity_metrics(true: Tags, predicted: Tags, types: Sequence[str], seed: int) -> dict[str, Any]:
    """Returns the figures of a split as plain values.

    An entity counts as found if its first word, its last one and its type are right (Tjong Kim Sang
    & De Meulder 2003, section 2.3). "I-X" begins an entity where none of type X can go on.

    Args:
      true: The tags of each sentence.
      predicted: As many.
      types: Those of the data, in the order to list them.
      seed: Of the bootstrap.

    Returns:
      Micro-averaged precision, recall and F1 over entities as {"value", "low", "high"} with 95 %
      percentile bootstrap intervals over sentences (Efron & Tibshirani 1993, chapter 13), "macro"
      and "weighted" averages, precision, recall, F1 and support per type. A ratio of nothing counts
      as 0.
    """
    counts = np.array([_counts(*pair) for pair in zip(true, predicted)], np.int64).reshape(-1, 3)
    per_type = _report(true, predicted)
    none = {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 0}
    names = ("precision", "recall", "f1")
    drawn = _bootstrap(counts, seed)
    return {
        "examples": len(true),
        "entities": int(counts[:, 1].sum()),
        "counted": "entities",
        **{
            name: {"value": float(value), "low": float(low), "high": float(high)}
            for name, value, (low, high) in zip(names, _ratios(counts.sum(axis=0)), drawn)
        },
        "macro": _row(per_type.get("macro avg", none)),
        "weighted": _row(per_type.get("weighted avg", none)),
        "per_class": [
            {
                "name": name,
                **_row(per_type.get(name, none)),
                "support": int(per_type.get(name, none)["support"]),
            }
            for name in types
        ],
    }


def entities_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Returns (type, first word, word after the last) of each entity in a sentence."""
    return [
        (kind, int(first), int(last) + 1)
        for kind, first, last in sequence_labeling.get_entities(list(tags))
    ]


def _counts(true: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Returns how many entities of a sentence are right, there, and predicted."""
    there, guessed = Counter(entities_of(true)), Counter(entities_of(predicted))
    return (there & guessed).total(), there.total(), guessed.total()


def _ratios(counts: np.ndarray) -> np.ndarray:
    """Returns precision, recall and F1, [..., 3], of counts [..., 3] as `_counts` gives them."""
    right, there, guessed = np.moveaxis(counts.astype(np.float64), -1, 0)
    pairs = ((right, guessed), (right, there), (2 * right, there + guessed))
    return np.stack([part / np.maximum(whole, 1) for part, whole in pairs], axis=-1)


def _bootstrap(counts: np.ndarray, seed: int) -> list[tuple[float, float]]:
    draw = np.random.default_rng(seed)
    rows = [
        counts[draw.integers(0, len(counts), len(counts))].sum(axis=0) for _ in range(_RESAMPLES)
    ]
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(_ratios(np.array(rows)), (tail, 1 - tail), axis=0)
    return list(zip(low, high))


def _report(true: Tags, predicted: Tags) -> dict[str, Any]:
    lists = [[list(tags) for tags in each] for each in (true, predicted)]
    if not any(tag != "O" for each in lists for tags in each for tag in tags):
        return {}  # which seqeval cannot count
    return sequence_labeling.classification_report(*lists, output_dict=True, zero_division=0)


def _row(figures: dict[str, Any]) -> dict[str, float]:
    return {
        "precision": float(figures["precision"]),
        "recall": float(figures["recall"]),
        "f1": float(figures["f1-score"]),
    }
