"""The examples of all splits, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft_keras.check.findings import Example
from sft_keras.data.examples import SPLITS, DataInfo
from sft_keras.data.prepared import Prepared


class Together:
    """What is known of them without reading them.

    Attributes:
      ids: (split, id) of each.
      digests: uint8 [n, size], of what the model reads of each.
      labels: int [n].
      one_label: Whether these are classes.
      sizes: Examples per split.
    """

    def __init__(self, prepared: Mapping[str, Prepared], info: DataInfo) -> None:
        parts = [(name, prepared[name]) for name in SPLITS]
        self.ids = [(name, each) for name, part in parts for each in part.examples.ids]
        self.digests = np.concatenate([part.digests for _, part in parts])
        self.labels = np.concatenate([part.examples.labels for _, part in parts])
        self.one_label = bool(info.class_names) and all(
            part.examples.occurrences is None for _, part in parts
        )
        self.class_names = info.class_names
        self.sizes = {name: len(part.examples) for name, part in parts}

    def group(self, members: Sequence[int], note: Callable[[int], str]) -> tuple[Example, ...]:
        """Returns examples by their numbers, those to keep first: of test before of train."""
        order = ("test", "validation", "train")
        found = [Example(*self.ids[index], note(index)) for index in members]
        return tuple(sorted(found, key=lambda example: order.index(example.split)))

    def label(self, index: int) -> str:
        """Returns the name of an example's class, if it has one."""
        return self.class_names[self.labels[index]] if self.one_label else ""
