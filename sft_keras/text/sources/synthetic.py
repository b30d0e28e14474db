"""Synthetic texts to try a recipe with: "synthetic:NUM_CLASSES". Does not import TensorFlow."""

from __future__ import annotations

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.text.cleaning import TextRow
from sft_keras.text.labels import LabelKind, synthetic_name

_PER_CLASS = 24
_MAX_WORDS = 12


def synthetic_rows(num_classes: str, kind: LabelKind, seed: int) -> dict[str, list[TextRow]]:
    """Return texts of random words, among them a word for each class of the label.

    Args:
      num_classes: A number from 2 to 26, as text.
      kind: The kind of labels.
      seed: The same seed makes the same texts.

    Raises:
      DataError: If `num_classes` is not such a number.
    """
    if not num_classes.isdecimal() or not 2 <= int(num_classes) <= 26:
        raise DataError(
            "`data.source` must be 'synthetic:NUM_CLASSES' with a number from 2 to 26. "
            f"Received: 'synthetic:{num_classes}'."
        )
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(int(num_classes) * _PER_CLASS):
        classes, label = kind.synthesize(number, int(num_classes), draw)
        count = draw.integers(2, _MAX_WORDS)
        words = ["".join(draw.choice(list("nopqrstuvwxyz"), 3)) for _ in range(count)]
        for class_label in classes:
            words.insert(draw.integers(0, count), synthetic_name(class_label) * 3)
        rows.append(TextRow(f"synthetic[{number}]", (" ".join(words),), label))
    return {"train": rows}
