"""What a source holds, as found, and what is wrong with it. No TensorFlow at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words}


@dataclasses.dataclass(frozen=True)
class Part:
    """The examples that a source keeps under one split name.

    Attributes:
      ids: See `Examples.ids`.
      labels: int64 [n]; not checked yet.
      occurrences: See `Examples.occurrences`.
      groups: See `Examples.groups`.
      group_noun: What the groups are, in words: "articles".
      paths: See `Examples.paths`.
      stream: (positions int64 [m] among the n, seed or None) -> see `Examples.stream`, with
        "index" counting within `positions`.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    stream: Callable[[np.ndarray, tf.Tensor | None], tf.data.Dataset] = dataclasses.field(
        repr=False
    )
    occurrences: np.ndarray | None = dataclasses.field(default=None, repr=False)
    groups: np.ndarray | None = dataclasses.field(default=None, repr=False)
    group_noun: str = "groups"
    paths: tuple[str, ...] | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Listing:
    """All that a source holds.

    Attributes:
      class_names: Names of the classes 0, 1, ...; none where examples have none, which parts say
        by `occurrences` of shape [n, 0].
      parts: By split name, "train" and others.
      faults: What the source itself found wrong, one sentence each.
      facts: What else there is to say, see `DataInfo.facts`.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Part]
    faults: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def all_faults(self) -> list[str]:
        """Returns every fault that shows without decoding, one sentence each."""
        faults = [*self.faults, *self._label_faults()]
        if not self.parts.get("train") or not len(self.parts["train"].ids):
            found = ", ".join(f"{name} ({len(part.ids)})" for name, part in self.parts.items())
            faults.append(f"There are no examples to train on. Found: {found or 'none'}.")
        faults += [
            f"The {name!r} split has no examples."
            for name, part in self.parts.items()
            if name != "train" and not len(part.ids)
        ]
        fewest = 2 if self._one_label() else 1
        if self._has_classes() and len(self.class_names) < fewest:
            faults.append(
                f"There must be at least {fewest} {'classes' if fewest > 1 else 'class'}. "
                f"Received: {', '.join(map(repr, self.class_names)) or 'none'}."
            )
        return faults

    def _label_faults(self) -> list[str]:
        faults = []
        trained = self._occurring("train") if "train" in self.parts else None
        for name, part in self.parts.items():
            outside = [label for label in part.labels.tolist() if not self._is_known(label)]
            if not self._one_label():
                outside = []  # the labels are no classes
            if outside:
                faults.append(
                    f"Labels of the {name!r} split must be from 0 to {len(self.class_names) - 1}, "
                    f"as there are {len(self.class_names)} classes. Received: "
                    f"{preview(sorted(set(outside)))}, in {len(outside)} examples."
                )
            if trained is None:
                continue
            lacking = sorted(filter(self._is_known, self._occurring(name) - trained))
            if lacking:
                names = preview([repr(self.class_names[label]) for label in lacking])
                faults.append(
                    f"The {name!r} split has classes of which there is nothing to train on: "
                    f"{names}. Add training examples of them, or remove them."
                )
        return faults

    def _is_known(self, label: int) -> bool:
        return 0 <= label < len(self.class_names)

    def _has_classes(self) -> bool:
        found = [part.occurrences for part in self.parts.values()]
        return any(each is None or each.shape[1] for each in found)

    def _one_label(self) -> bool:
        return all(part.occurrences is None for part in self.parts.values())

    def _occurring(self, name: str) -> set[int]:
        """Returns the classes of which a part has examples."""
        part = self.parts[name]
        if part.occurrences is None:
            return set(part.labels.tolist())
        return set(np.flatnonzero(part.occurrences.sum(axis=0)).tolist())


def parse_split_name(word: str) -> str | None:
    """Returns the split that a folder, a column or a data set calls `word`, if it is one."""
    return _SPLIT_OF.get(word.strip().lower())


def known_split_names() -> str:
    """Returns the words that name splits, for messages."""
    return ", ".join(_SPLIT_OF)


def preview(items: Sequence[object], most: int = 10) -> str:
    """Returns the first items, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(str(item) for item in items[:most]) + more
