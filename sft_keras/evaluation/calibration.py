"""Calibration of a classifier: measuring it, and temperature scaling.

A classifier is calibrated if 80 % of the examples that it predicts with a confidence of 0.8 are
correct. Fine-tuned networks are mostly overconfident. Dividing the logits by a temperature that is
fitted on the validation split changes no prediction and removes most of the error (Guo et al. 2017,
arXiv:1706.04599, sections 2 and 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

_MIN_BINS, _MAX_BINS = 5, 15
_EXAMPLES_PER_BIN = 20  # on average; with fewer, bins show noise
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.1, 10.0
_FIT_EXAMPLES = 10_000  # enough for a single parameter
_TINY = np.finfo(np.float32).tiny


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that maximizes the likelihood of the labels.

    Args:
      probabilities: The model's outputs, float [n, num_classes].
      labels: Class indices, int [n].

    Returns:
      The temperature, between 0.1 and 10. It is 1.0 if the likelihood has no maximum there, e.g.
      because all predictions are right or all are wrong.

    Example:

    ```python
    temperature = fit_temperature(validation_probabilities, validation_labels)
    calibrated = apply_temperature(test_probabilities, temperature)
    ```
    """
    step = -(-len(labels) // _FIT_EXAMPLES)
    probabilities, labels = probabilities[::step], labels[::step]

    def loss(logarithm: float) -> float:
        return _log_loss(apply_temperature(probabilities, np.exp(logarithm)), labels)

    bounds = (np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE))
    optimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    temperature = float(np.exp(optimum.x))
    is_at_bound = not 1.01 * _MIN_TEMPERATURE < temperature < _MAX_TEMPERATURE / 1.01
    return 1.0 if is_at_bound else round(temperature, 4)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities after dividing the logits by a temperature.

    Args:
      probabilities: Float [n, num_classes].
      temperature: Above 1 to lower the confidence, below 1 to raise it.

    Returns:
      float64 [n, num_classes].
    """
    # Softmax is invariant to a constant added to all logits, so logarithms serve as logits.
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return how well the confidence of the predictions matches their accuracy.

    Args:
      probabilities: Float [n, num_classes].
      labels: Class indices, int [n].

    Returns:
      "error": the expected calibration error, 0..1, over 5 to 15 bins of equal width;
      "loss": the mean negative log-likelihood, which judges probabilities without bins;
      "bins": for every bin with examples {"from", "to", "count", "confidence", "accuracy"}, the
      last two as means over its examples.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == labels
    num_bins = min(max(len(labels) // _EXAMPLES_PER_BIN, _MIN_BINS), _MAX_BINS)
    bin_indices = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    bins = [
        {
            "from": index / num_bins,
            "to": (index + 1) / num_bins,
            "count": int(in_bin.sum()),
            "confidence": float(confidence[in_bin].mean()),
            "accuracy": float(is_right[in_bin].mean()),
        }
        for index in range(num_bins)
        if (in_bin := bin_indices == index).any()
    ]
    error = sum(part["count"] * abs(part["accuracy"] - part["confidence"]) for part in bins)
    return {"error": error / len(labels), "loss": _log_loss(probabilities, labels), "bins": bins}


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -float(np.log(np.maximum(likelihood, _TINY)).mean())
