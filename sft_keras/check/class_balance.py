"""What the labels alone show: classes too small, a label that is nearly always the same."""

from __future__ import annotations

import numpy as np

from sft_keras.check.findings import Finding
from sft_keras.data.examples import DataInfo

_FEW = 10  # training examples of a class
_NEARLY_ALL = 0.99


def label_findings(info: DataInfo) -> list[Finding]:
    """Returns what the counts of classes show; of labels that are no classes nothing."""
    if not info.num_classes:
        return _numbers(info)
    findings = []
    counts = {name: np.array(each) for name, each in info.counts.items()}
    train = counts["train"]
    few = [f"{n!r} ({c})" for n, c in zip(info.class_names, train) if 0 < c < _FEW]
    if few:
        findings.append(
            Finding(
                "small classes",
                f"Classes with fewer than {_FEW} training examples: {_listed(few)}. What is learnt "
                "of them is mostly chance, and so are their figures.",
            )
        )
    unseen = {
        split: [n for n, here, there in zip(info.class_names, each, train) if there and not here]
        for split, each in counts.items()
        if split != "train"
    }
    findings += [
        Finding(
            f"classes without {split} examples",
            f"{_listed(list(map(repr, names)))}: the figures of that split say nothing of them.",
        )
        for split, names in unseen.items()
        if names
    ]
    if len(train) > 1 and train.sum() and train.max() / train.sum() > _NEARLY_ALL:
        name = info.class_names[int(train.argmax())]
        findings.append(
            Finding(
                "nearly one label",
                f"{train.max() / train.sum():.1%} of the training examples are {name!r}: a model "
                "that always says so is as accurate. Look at F1, and use class_weights='balanced' "
                "or more examples of the others.",
                spoils=True,
            )
        )
    return findings


def _numbers(info: DataInfo) -> list[Finding]:
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


def _listed(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
