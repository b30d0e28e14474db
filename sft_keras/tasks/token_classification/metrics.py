"""Entity metrics as seqeval computes them, and the token accuracy to watch in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from seqeval.metrics import sequence_labeling
from typing_extensions import override

from sft_keras.evaluation.bootstrap import bootstrap_intervals
from sft_keras.tasks.token_classification.tag_schemes import OUTSIDE

Tags = Sequence[Sequence[str]]
"""The tags of the words of some sentences, in IOB2."""

_NO_ENTITIES = {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "support": 0}


class EntitySpan(NamedTuple):
    """An entity of a sentence: its type, and `words[start:end]`."""

    type: str
    start: int
    end: int


def entity_metrics(true: Tags, predicted: Tags, types: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the metrics of a split as plain values.

    A predicted entity is correct if its first word, its last word and its type are (Tjong Kim Sang
    & De Meulder 2003, section 2.3). "I-X" begins an entity where it cannot continue one of type X.

    Args:
      true: The tags of each sentence.
      predicted: The predicted tags of each sentence.
      types: The entity types of the data, in the order to list them.
      seed: Seed of the bootstrap.

    Returns:
      "precision", "recall" and "f1", micro-averaged over entities, as {"value", "low", "high"} with
      95 % percentile bootstrap intervals over sentences (Efron & Tibshirani 1993, chapter 13);
      "macro" and "weighted" averages; and "per_class" precision, recall, F1 and support. A ratio
      with denominator 0 is 0.
    """
    counts = np.array([_entity_counts(*pair) for pair in zip(true, predicted)], np.int64)
    counts = counts.reshape(-1, 3)
    report = _classification_report(true, predicted)

    def ratios(sentences: np.ndarray) -> dict[str, float]:
        values = _precision_recall_f1(counts[sentences].sum(axis=0))
        return dict(zip(("precision", "recall", "f1"), values))

    values = ratios(np.arange(len(counts)))
    intervals = bootstrap_intervals(ratios, len(counts), seed)
    return {
        "examples": len(true),
        "entities": int(counts[:, 1].sum()),
        "counted": "entities",
        **{name: {"value": float(value), **intervals[name]} for name, value in values.items()},
        "macro": _report_row(report.get("macro avg", _NO_ENTITIES)),
        "weighted": _report_row(report.get("weighted avg", _NO_ENTITIES)),
        "per_class": [
            {
                "name": name,
                **_report_row(report.get(name, _NO_ENTITIES)),
                "support": int(report.get(name, _NO_ENTITIES)["support"]),
            }
            for name in types
        ],
    }


def extract_entities(tags: Sequence[str]) -> list[EntitySpan]:
    """Return the entities of a sentence, in order."""
    return [
        EntitySpan(entity_type, int(first), int(last) + 1)
        for entity_type, first, last in sequence_labeling.get_entities(list(tags))
    ]


class TokenAccuracy(keras.metrics.Mean):
    """Share of tokens with a tag whose most probable tag is correct.

    Targets are one-hot, float [batch, tokens, tags], with rows of zeros for tokens without a tag;
    predictions are logits of the same shape.
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    @override
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; `sample_weight`, if any, is one weight per text, float [batch]."""
        is_correct = keras.ops.argmax(y_true, axis=-1) == keras.ops.argmax(y_pred, axis=-1)
        weights = keras.ops.max(y_true, axis=-1)
        if sample_weight is not None:
            weights *= sample_weight[:, None]
        super().update_state(keras.ops.cast(is_correct, "float32"), sample_weight=weights)


def _entity_counts(true: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return the numbers of correct, true and predicted entities of a sentence."""
    true_entities = Counter(extract_entities(true))
    predicted_entities = Counter(extract_entities(predicted))
    correct = true_entities & predicted_entities
    return correct.total(), true_entities.total(), predicted_entities.total()


def _precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1, float64 [3], from the counts of `_entity_counts`, [3]."""
    correct, true, predicted = counts.astype(np.float64)
    fractions = ((correct, predicted), (correct, true), (2 * correct, true + predicted))
    return np.array([part / max(whole, 1.0) for part, whole in fractions])


def _classification_report(true: Tags, predicted: Tags) -> dict[str, Any]:
    lists = [[list(tags) for tags in sentences] for sentences in (true, predicted)]
    if all(tag == OUTSIDE for sentences in lists for tags in sentences for tag in tags):
        return {}  # seqeval raises an error without any entity
    return sequence_labeling.classification_report(*lists, output_dict=True, zero_division=0)


def _report_row(row: dict[str, Any]) -> dict[str, float]:
    return {
        "precision": float(row["precision"]),
        "recall": float(row["recall"]),
        "f1": float(row["f1-score"]),
    }
