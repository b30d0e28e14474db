"""An exported file's answers beside the trained model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.export.probe_inputs import Questions

_SMALLEST = 1e-7
"""In the place of probabilities that integers have rounded to 0, of which there is no logarithm."""


def differences(outputs: np.ndarray, questions: Questions) -> dict[str, float]:
    """Returns how far answers are from the trained model's.

    Args:
      outputs: Probabilities, float32 as `Questions.expected`; of texts perhaps of fewer tokens.
      questions: What was asked.

    Returns:
      {"largest_difference": between probabilities, "agreement": the share of answers, of texts with
      a tag each of tokens, whose most probable class is the same}.
    """
    given = as_expected(outputs, questions)
    same = given.argmax(axis=-1) == questions.expected.argmax(axis=-1)
    return {
        "largest_difference": float(np.abs(given - questions.expected).max()),
        "agreement": float(same[questions.counted].mean()),
    }


def as_expected(outputs: np.ndarray, questions: Questions) -> np.ndarray:
    """Returns outputs in the shape of the trained model's, 0 for padding."""
    if outputs.ndim == 2:
        return outputs
    whole = np.zeros_like(questions.expected)
    tokens = min(outputs.shape[1], whole.shape[1])
    whole[:, :tokens] = outputs[:, :tokens]
    return whole * questions.counted[:, :, np.newaxis]


def scorable(outputs: np.ndarray) -> np.ndarray:
    """Returns probabilities of which a task can tell the loss."""
    return np.maximum(outputs, _SMALLEST)


def by_class(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns {"name", "support", "trained", "exported"} of each class: the share of it found."""
    return [
        {
            "name": one["name"],
            "support": one["support"],
            "trained": one["recall"],
            "exported": other["recall"],
        }
        for one, other in zip(before["per_class"], after["per_class"], strict=True)
    ]
