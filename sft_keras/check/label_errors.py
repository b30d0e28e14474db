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
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sft_keras.check.dataset_view import Together
from sft_keras.check.findings import Finding

_MOST_FOLDS = 5
_INVERSE_PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.1)
_TRIED_ON = 4000  # examples, to choose the penalty by
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

    The probe's penalty is the one whose probabilities are best out of fold: a probe that is too
    sure of itself takes all that is difficult for wrongly labelled.

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

    def probabilities(chosen: np.ndarray, inverse_penalty: float) -> np.ndarray:
        probe = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS)
        made = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return cross_val_predict(
            make_pipeline(StandardScaler(), probe),
            features[chosen],
            inverse[chosen],
            cv=made,
            method="predict_proba",
        )

    some = np.arange(len(labels))
    if len(labels) > _TRIED_ON and folds * len(classes) <= _TRIED_ON:
        some, _ = train_test_split(some, train_size=_TRIED_ON, random_state=seed, stratify=inverse)
    if np.bincount(inverse[some]).min() < folds:
        return probabilities(np.arange(len(labels)), _INVERSE_PENALTIES[1])
    losses = {
        each: log_loss(inverse[some], probabilities(some, each), labels=range(len(classes)))
        for each in _INVERSE_PENALTIES
    }
    return probabilities(np.arange(len(labels)), min(losses, key=losses.__getitem__))


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


FEWEST = 20
"""Examples, below which a probe tells nothing."""


def wrong_label_findings(features: np.ndarray, together: Together, seed: int) -> list[Finding]:
    """Returns the examples whose label is likely wrong, those least in doubt first.

    Args:
      features: float [n, d].
      together: The examples; of one class each, of which there are two or more.
      seed: Of the probe's folds.
    """
    classes, columns = np.unique(together.labels, return_inverse=True)
    probabilities = out_of_fold_probabilities(features, together.labels, seed)
    suspects = likely_label_errors(probabilities, columns)
    groups = tuple(
        together.group(
            [each.index],
            lambda index, each=each: (
                f"labelled {together.label(index)}, like "
                f"{together.class_names[classes[each.suggested]]} ({each.probability:.0%} against "
                f"{each.own:.0%})"
            ),
        )
        for each in suspects
    )
    if not groups:
        return []
    share = len(groups) / len(together.labels)
    right = float((probabilities.argmax(axis=1) == columns).mean())
    return [
        Finding(
            "likely wrong labels",
            f"A probe that did not train on them takes them for another class ({share:.1%} of "
            f"all). It agrees with {right:.0%} of all labels: the fewer these are, the more of "
            "what it names is only difficult. Look at them, those least in doubt first, and mend "
            "or exclude what is wrong.",
            groups,
        )
    ]
