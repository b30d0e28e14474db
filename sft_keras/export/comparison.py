"""Compares the outputs of an exported file with those of the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sft_keras.export.probe_inputs import ProbeInputs

_MIN_PROBABILITY = 1e-7
"""Replaces probabilities that quantization rounded to 0, whose logarithm is not finite."""


def differences(outputs: np.ndarray, inputs: ProbeInputs) -> dict[str, float]:
    """Return how far an exported file's outputs are from the trained model's.

    Args:
      outputs: Probabilities, float32, shaped as `inputs.expected`. Those of token classification
        may have fewer tokens.
      inputs: The inputs with the expected outputs.

    Returns:
      {"largest_difference": of any probability, "agreement": fraction of examples (of tokens, in
      token classification) with the same most probable class}.
    """
    aligned = align_outputs(outputs, inputs)
    same = aligned.argmax(axis=-1) == inputs.expected.argmax(axis=-1)
    return {
        "largest_difference": float(np.abs(aligned - inputs.expected).max()),
        "agreement": float(same[inputs.valid].mean()),
    }


def align_outputs(outputs: np.ndarray, inputs: ProbeInputs) -> np.ndarray:
    """Return outputs in the shape of the expected ones, with 0 at padding."""
    if outputs.ndim == 2:
        return outputs
    aligned = np.zeros_like(inputs.expected)
    tokens = min(outputs.shape[1], aligned.shape[1])
    aligned[:, :tokens] = outputs[:, :tokens]
    return aligned * inputs.valid[:, :, np.newaxis]


def clip_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return probabilities of which a finite loss can be computed."""
    return np.maximum(outputs, _MIN_PROBABILITY)


def recall_per_class(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return {"name", "support", "trained", "exported"} per class, the latter two its recall."""
    return [
        {
            "name": trained["name"],
            "support": trained["support"],
            "trained": trained["recall"],
            "exported": exported["recall"],
        }
        for trained, exported in zip(before["per_class"], after["per_class"], strict=True)
    ]
