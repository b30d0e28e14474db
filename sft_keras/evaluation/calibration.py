"""How far probabilities can be believed, and one number that mends most of it.

A classifier is calibrated if of the examples to which it gives 0.8, eight in ten are right. Fine-
tuned networks are mostly too sure of themselves. Dividing logits by a temperature that is fitted on
the validation split changes no prediction, and brings most of it right (Guo et al. 2017,
arXiv:1706.04599, sections 2 and 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

_FEWEST, _MOST_BINS = 5, 15
_IN_A_BIN = 20  # examples that there should be on average, or the bins show noise
_LEAST, _MOST = 0.1, 10.0  # the temperatures that are tried
_ENOUGH = 10_000  # examples to fit one number
_SMALLEST = np.finfo(np.float32).tiny


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature at which some examples' labels are likeliest.

    Args:
      probabilities: Of the model, float [n, num_classes].
      labels: Int [n].

    Returns:
      The temperature; 1.0 where there is no such: without a mistake (or a hit) among the examples
      there is nothing that would hold it.
    """
    every = -(-len(labels) // _ENOUGH)
    probabilities, labels = probabilities[::every], labels[::every]

    def loss(logarithm: float) -> float:
        return _loss(apply_temperature(probabilities, np.exp(logarithm)), labels)

    bounds = (np.log(_LEAST), np.log(_MOST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    temperature = float(np.exp(found.x))
    is_at_an_end = not 1.01 * _LEAST < temperature < _MOST / 1.01
    return 1.0 if is_at_an_end else round(temperature, 4)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns what the probabilities are once the logits are divided by a temperature, float64."""
    # Softmax forgets what is added to all logits, so their logarithms serve as well.
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Returns how the probabilities of the predicted classes fit how often these are right.

    Args:
      probabilities: Float [n, num_classes].
      labels: Int [n].

    Returns:
      {"error": the expected calibration error, 0..1, over bins of equal width, 5 to 15 of them;
      "loss": the mean negative log-likelihood, which judges probabilities without bins; "bins": of
      those that have examples {"from", "to", "count", "confidence", "accuracy"}, means}.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == labels
    count = min(max(len(labels) // _IN_A_BIN, _FEWEST), _MOST_BINS)
    numbers = np.minimum((confidence * count).astype(int), count - 1)
    bins = [
        {
            "from": number / count,
            "to": (number + 1) / count,
            "count": int(own.sum()),
            "confidence": float(confidence[own].mean()),
            "accuracy": float(is_right[own].mean()),
        }
        for number in range(count)
        if (own := numbers == number).any()
    ]
    error = sum(each["count"] * abs(each["accuracy"] - each["confidence"]) for each in bins)
    return {"error": error / len(labels), "loss": _loss(probabilities, labels), "bins": bins}


def _loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    likely = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -float(np.log(np.maximum(likely, _SMALLEST)).mean())
