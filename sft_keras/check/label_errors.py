"""Which labels are likely wrong, by confident learning.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, arXiv:1911.00068, sections 3.1 and 3.2: an example counts as one of class k if its
probability of k is at least what examples labelled k get on average. Those that count as one of
another class than they are labelled are the off-diagonal of the confident joint.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_MOST_FOLDS = 5
_PENALTY = 0.01  # inverse strength; features are many and their scale is one
_ITERATIONS = 300


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """One example whose label is likely wrong.

    Attributes:
      index: Which example.
      suggested: The class it counts as one of.
      probability: Of that class, 0..1.
      own: Probability of its label, 0..1.
    """

    index: int
    suggested: int
    probability: float
    own: float


def out_of_fold_probabilities(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns what a linear probe says of each example that did not train on it.

    Args:
      features: float [n, d].
      labels: int [n]; classes of a single example are left out of what the probe knows.
      seed: Of the folds.

    Returns:
      float64 [n, classes], columns in the order of `np.unique(labels)`.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    folds = int(min(_MOST_FOLDS, counts.min()))
    if folds < 2 or len(classes) < 2:
        raise ValueError(
            "Probabilities out of fold need two classes or more, of two examples or more each. "
            f"Received: {len(classes)} classes, the smallest of {counts.min()}."
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=_ITERATIONS))
    made = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return cross_val_predict(probe, features, inverse, cv=made, method="predict_proba")


def likely_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> list[Suspicion]:
    """Returns the examples whose label is likely wrong, the most likely first.

    Args:
      probabilities: float [n, classes], out of fold.
      labels: int [n], columns of `probabilities`.
    """
    count, classes = probabilities.shape
    own = probabilities[np.arange(count), labels]
    usual = np.array([own[labels == each].mean() for each in range(classes)])
    counts_as = np.where(probabilities >= usual, probabilities, -1.0)
    suggested = counts_as.argmax(axis=1)
    is_suspect = (counts_as.max(axis=1) >= 0) & (suggested != labels)
    suspects = np.flatnonzero(is_suspect)
    margin = probabilities[suspects, suggested[suspects]] - own[suspects]
    return [
        Suspicion(
            int(index),
            int(suggested[index]),
            float(probabilities[index, suggested[index]]),
            float(own[index]),
        )
        for index in suspects[np.argsort(-margin, kind="stable")]
    ]
