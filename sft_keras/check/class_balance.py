"""Findings from the labels alone: small classes and dominant labels."""

from __future__ import annotations

import numpy as np

from sft_keras.check.findings import Finding
from sft_keras.data.examples import DataInfo

_FEW = 10  # training examples of a class
_NEARLY_ALL = 0.99  # share of the training examples


def label_findings(info: DataInfo) -> list[Finding]:
    """Return findings from the class counts, or from the mean and deviation of numeric labels."""
    if not info.num_classes:
        return _number_findings(info)
    counts = {split: np.array(split_counts) for split, split_counts in info.counts.items()}
    return [
        *_small_classes(info, counts["train"]),
        *_unseen_classes(info, counts),
        *_dominant_class(info, counts["train"]),
    ]


def _small_classes(info: DataInfo, train: np.ndarray) -> list[Finding]:
    few = [f"{name!r} ({n})" for name, n in zip(info.class_names, train) if 0 < n < _FEW]
    if not few:
        return []
    return [
        Finding(
            "small classes",
            f"Classes with fewer than {_FEW} training examples: {_join(few)}. What the model "
            "learns about them is mostly chance, and so are their metrics.",
        )
    ]


def _unseen_classes(info: DataInfo, counts: dict[str, np.ndarray]) -> list[Finding]:
    findings = []
    for split in counts:
        if split == "train":
            continue
        missing = [
            repr(name)
            for name, in_split, in_train in zip(info.class_names, counts[split], counts["train"])
            if in_train and not in_split
        ]
        if missing:
            findings.append(
                Finding(
                    f"classes without {split} examples",
                    f"{_join(missing)}: the metrics of that split do not cover them.",
                )
            )
    return findings


def _dominant_class(info: DataInfo, train: np.ndarray) -> list[Finding]:
    if len(train) < 2 or not train.sum() or train.max() / train.sum() <= _NEARLY_ALL:
        return []
    name = info.class_names[int(train.argmax())]
    return [
        Finding(
            "nearly one label",
            f"{train.max() / train.sum():.1%} of the training examples are {name!r}: a model that "
            "always predicts this class is just as accurate. Look at F1, and use "
            "class_weights='balanced' or add examples of the other classes.",
            spoils=True,
        )
    ]


def _number_findings(info: DataInfo) -> list[Finding]:
    numbers = info.facts.get("numbers")
    if not numbers or numbers["deviation"] > 1e-6 * max(1.0, abs(numbers["mean"])):
        return []
    return [
        Finding(
            "one label",
            f"All training examples have the label {numbers['mean']:g}: there is nothing to learn.",
            spoils=True,
        )
    ]


def _join(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
