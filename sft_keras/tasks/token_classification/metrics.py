"""Figures of tagged words, as seqeval counts entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from seqeval.metrics import sequence_labeling

from sft_keras.evaluation.bootstrap import bootstrap_intervals

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

    def ratios(positions: np.ndarray) -> dict[str, float]:
        return dict(zip(("precision", "recall", "f1"), _ratios(counts[positions].sum(axis=0))))

    whole = ratios(np.arange(len(counts)))
    intervals = bootstrap_intervals(ratios, len(counts), seed)
    return {
        "examples": len(true),
        "entities": int(counts[:, 1].sum()),
        "counted": "entities",
        **{name: {"value": float(value), **intervals[name]} for name, value in whole.items()},
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
    """Returns precision, recall and F1, [3], of counts [3] as `_counts` gives them."""
    right, there, guessed = counts.astype(np.float64)
    pairs = ((right, guessed), (right, there), (2 * right, there + guessed))
    return np.array([part / max(whole, 1.0) for part, whole in pairs])


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


class TokenAccuracy(keras.metrics.Mean):
    """The share of tokens whose most probable class is theirs; tokens without one do not count.

    Takes y, one-hot float [batch, tokens, num_classes] with rows of zeros for tokens that have no
    class, and logits of the same shape. Sample weights are those of texts, [batch].
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch."""
        is_right = keras.ops.argmax(y_true, axis=-1) == keras.ops.argmax(y_pred, axis=-1)
        weights = keras.ops.max(y_true, axis=-1)
        if sample_weight is not None:
            weights *= sample_weight[:, None]
        super().update_state(keras.ops.cast(is_right, "float32"), sample_weight=weights)
