"""Likely label errors, found by confident learning.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, arXiv:1911.00068, sections 3.1 and 3.2: an example counts as a member of class k if its
predicted probability of k is at least the average that examples labelled k receive. Examples that
count as a member of another class than their label are the off-diagonal entries of the confident
joint.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sft_keras.check.dataset_view import DatasetView
from sft_keras.check.findings import Finding

MIN_EXAMPLES = 20
"""Fewest examples for which a probe is informative."""

_MAX_FOLDS = 5
_INVERSE_PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.1)
_SELECTION_SIZE = 4000  # examples used to select the penalty
_ITERATIONS = 300


@dataclasses.dataclass(frozen=True)
class LabelError:
    """An example whose label is likely wrong.

    Attributes:
      index: Position of the example.
      suggested: The class that it counts as a member of.
      probability: Probability of the suggested class, 0..1.
      label_probability: Probability of its label, 0..1.
    """

    index: int
    suggested: int
    probability: float
    label_probability: float


def out_of_fold_probabilities(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the probabilities that a linear probe predicts for held-out examples.

    The penalty is the one with the lowest out-of-fold log loss: an overconfident probe would
    report difficult examples as label errors.

    Args:
      features: float [n, d].
      labels: int [n], at least two classes with at least two examples each.
      seed: Seed of the folds.

    Returns:
      float64 [n, classes], columns in the order of `np.unique(labels)`.

    Raises:
      ValueError: If there are too few classes, or a class has a single example.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    folds = int(min(_MAX_FOLDS, counts.min()))
    if folds < 2 or len(classes) < 2:
        raise ValueError(
            "Out-of-fold probabilities need at least two classes with at least two examples each. "
            f"Received: {len(classes)} classes, the smallest with {counts.min()} examples."
        )

    def probabilities(rows: np.ndarray, inverse_penalty: float) -> np.ndarray:
        probe = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS)
        return cross_val_predict(
            make_pipeline(StandardScaler(), probe),
            features[rows],
            inverse[rows],
            cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
            method="predict_proba",
        )

    everything = np.arange(len(labels))
    sample = everything
    if len(labels) > _SELECTION_SIZE and folds * len(classes) <= _SELECTION_SIZE:
        sample, _ = train_test_split(
            everything, train_size=_SELECTION_SIZE, random_state=seed, stratify=inverse
        )
    if np.bincount(inverse[sample]).min() < folds:
        return probabilities(everything, _INVERSE_PENALTIES[1])
    losses = {
        penalty: log_loss(
            inverse[sample], probabilities(sample, penalty), labels=range(len(classes))
        )
        for penalty in _INVERSE_PENALTIES
    }
    return probabilities(everything, min(losses, key=losses.__getitem__))


def likely_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> list[LabelError]:
    """Return the examples whose label is likely wrong, most likely first.

    Args:
      probabilities: Out-of-fold probabilities, float [n, classes].
      labels: int [n], columns of `probabilities`.
    """
    count, classes = probabilities.shape
    of_label = probabilities[np.arange(count), labels]
    # The average self-confidence per class, the thresholds t_j of the paper.
    thresholds = np.array([of_label[labels == label].mean() for label in range(classes)])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    is_error = (confident.max(axis=1) >= 0) & (suggested != labels)
    errors = np.flatnonzero(is_error)
    margin = probabilities[errors, suggested[errors]] - of_label[errors]
    return [
        LabelError(
            int(index),
            int(suggested[index]),
            float(probabilities[index, suggested[index]]),
            float(of_label[index]),
        )
        for index in errors[np.argsort(-margin, kind="stable")]
    ]


def label_error_findings(features: np.ndarray, view: DatasetView, seed: int) -> list[Finding]:
    """Return a finding with the likely label errors, most certain first.

    Args:
      features: Pooled backbone features, float [n, d].
      view: The examples, each with one of at least two classes.
      seed: Seed of the probe's folds.
    """
    classes, columns = np.unique(view.labels, return_inverse=True)
    probabilities = out_of_fold_probabilities(features, view.labels, seed)
    errors = likely_label_errors(probabilities, columns)
    if not errors:
        return []

    error_at = {error.index: error for error in errors}

    def note(index: int) -> str:
        error = error_at[index]
        return (
            f"labelled {view.label(index)}, predicted "
            f"{view.class_names[classes[error.suggested]]} "
            f"({error.probability:.0%} vs. {error.label_probability:.0%})"
        )

    groups = tuple(view.group([error.index], note) for error in errors)
    share = len(groups) / len(view.labels)
    agreement = float((probabilities.argmax(axis=1) == columns).mean())
    return [
        Finding(
            "likely wrong labels",
            f"A linear probe that was not trained on these examples ({share:.1%} of all) assigns "
            f"them to another class. It agrees with {agreement:.0%} of all labels; the lower this "
            "is, the more of the listed examples are merely difficult. Review them, most certain "
            "first, and fix or exclude the wrong ones.",
            groups,
        )
    ]
