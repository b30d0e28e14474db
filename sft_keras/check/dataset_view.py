"""The examples of all splits, concatenated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft_keras.check.findings import Example
from sft_keras.data.examples import SPLITS, DataInfo
from sft_keras.data.prepared import Prepared

_KEPT_FIRST = ("test", "validation", "train")


class DatasetView:
    """The concatenated splits, as far as they are known without reading examples.

    Attributes:
      ids: (split, id) of each example.
      digests: Hash of each example's model input, uint8 [n, size].
      labels: int [n].
      has_classes: Whether each label is exactly one class.
      class_names: Names of the classes.
      sizes: {split: number of examples}.
    """

    def __init__(self, prepared: Mapping[str, Prepared], info: DataInfo) -> None:
        splits = [(name, prepared[name]) for name in SPLITS]
        self.ids = [(name, id) for name, split in splits for id in split.examples.ids]
        self.digests = np.concatenate([split.digests for _, split in splits])
        self.labels = np.concatenate([split.examples.labels for _, split in splits])
        self.has_classes = bool(info.class_names) and all(
            split.examples.occurrences is None for _, split in splits
        )
        self.class_names = info.class_names
        self.sizes = {name: len(split.examples) for name, split in splits}

    def group(self, members: Sequence[int], note: Callable[[int], str]) -> tuple[Example, ...]:
        """Return examples by position, sorted by split: test, validation, train.

        The first example of a group is the one to keep, so that exclusions shrink the training
        split rather than the test split.
        """
        examples = [Example(*self.ids[index], note(index)) for index in members]
        return tuple(sorted(examples, key=lambda example: _KEPT_FIRST.index(example.split)))

    def label(self, index: int) -> str:
        """Return the class name of an example; "" if labels are not classes."""
        return self.class_names[self.labels[index]] if self.has_classes else ""
