"""Labels that a probe on the backbone's features contradicts."""

from __future__ import annotations

import numpy as np

from sft_keras.check.findings import Finding
from sft_keras.check.label_errors import likely_label_errors, out_of_fold_probabilities
from sft_keras.check.together import Together

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
