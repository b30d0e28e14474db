"""Contents of a source as listed, with everything that is wrong with it. No TensorFlow at run time.

Every source returns a `Listing`; `sft_keras.data.splits` turns it into the three splits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sft_keras.data.split_names import known_split_names as known_split_names
from sft_keras.data.split_names import parse_split_name as parse_split_name

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Part:
    """The examples that a source stores under one split name.

    Attributes:
      ids: As in `Examples`.
      labels: int64 [n], not validated yet.
      occurrences: As in `Examples`.
      groups: As in `Examples`.
      group_noun: What the groups are, as a plural noun for messages: "articles".
      paths: As in `Examples`.
      stream: As in `Examples`, but takes (positions int64 [m] among the n, seed or None), and
        "index" counts within `positions`.
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

    def subset(self, positions: np.ndarray) -> Part:
        """Return the part with the examples at `positions`, int64 [m]."""

        def stream(selected: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
            return self.stream(positions[selected], seed)

        return dataclasses.replace(
            self,
            ids=tuple(self.ids[position] for position in positions),
            labels=self.labels[positions],
            stream=stream,
            occurrences=None if self.occurrences is None else self.occurrences[positions],
            groups=None if self.groups is None else self.groups[positions],
            paths=None
            if self.paths is None
            else tuple(self.paths[position] for position in positions),
        )


@dataclasses.dataclass(frozen=True)
class Listing:
    """Everything that a source contains.

    Attributes:
      class_names: Names of the classes 0, 1, ...; empty if examples have no classes, in which case
        the parts have `occurrences` of shape [n, 0].
      parts: By split name; "train" is required.
      faults: What the source itself found wrong, one sentence each.
      facts: As in `DataInfo`.
      dropped_ids: Ids of examples in no part, which the source dropped; `data.exclude` may list
        them.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Part]
    faults: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dropped_ids: frozenset[str] = frozenset()

    def without(self, ids: Collection[str]) -> Listing:
        """Return the listing without some examples."""
        if not ids:
            return self
        parts = {}
        for name, part in self.parts.items():
            kept = [position for position, id_ in enumerate(part.ids) if id_ not in ids]
            parts[name] = part
            if len(kept) < len(part.ids):
                parts[name] = part.subset(np.array(kept, np.int64))
        return dataclasses.replace(self, parts=parts)

    def all_faults(self) -> list[str]:
        """Return every fault that can be detected without decoding, one sentence each."""
        faults = [*self.faults, *self._label_faults()]
        has_examples = "train" in self.parts and bool(self.parts["train"].ids)
        if not has_examples and self.faults:
            return faults  # which say why there are none
        if not has_examples:
            sizes = ", ".join(f"{name} ({len(part.ids)})" for name, part in self.parts.items())
            dropped = [f"{n} {reason}" for reason, n in self.facts.get("dropped", {}).items() if n]
            left_out = f" Dropped: {preview(dropped)}." if dropped else ""
            faults.append(
                f"There are no examples to train on. Received: {sizes or 'none'}.{left_out}"
            )
        faults += [
            f"The {name!r} split has no examples."
            for name, part in self.parts.items()
            if name != "train" and not len(part.ids)
        ]
        fewest = 2 if self._is_single_label() else 1
        if self._has_classes() and len(self.class_names) < fewest:
            faults.append(
                f"There must be at least {fewest} {'classes' if fewest > 1 else 'class'}. "
                f"Received: {', '.join(map(repr, self.class_names)) or 'none'}."
            )
        return faults

    def _label_faults(self) -> list[str]:
        faults = []
        in_training = self._occurring_classes("train") if "train" in self.parts else None
        for name, part in self.parts.items():
            out_of_range = []
            if self._is_single_label():  # else the labels are strata, not classes
                out_of_range = [
                    label for label in part.labels.tolist() if not self._is_class(label)
                ]
            if out_of_range:
                faults.append(
                    f"Labels of the {name!r} split must be from 0 to {len(self.class_names) - 1}, "
                    f"as there are {len(self.class_names)} classes. Received: "
                    f"{preview(sorted(set(out_of_range)))}, in {len(out_of_range)} examples."
                )
            if in_training is None:
                continue
            untrained = sorted(filter(self._is_class, self._occurring_classes(name) - in_training))
            if untrained:
                names = preview([repr(self.class_names[label]) for label in untrained])
                faults.append(
                    f"The {name!r} split has classes without training examples: {names}. Add "
                    "training examples of them, or remove them."
                )
        return faults

    def _is_class(self, label: int) -> bool:
        return 0 <= label < len(self.class_names)

    def _has_classes(self) -> bool:
        occurrences = [part.occurrences for part in self.parts.values()]
        return any(counts is None or counts.shape[1] for counts in occurrences)

    def _is_single_label(self) -> bool:
        return all(part.occurrences is None for part in self.parts.values())

    def _occurring_classes(self, name: str) -> set[int]:
        part = self.parts[name]
        if part.occurrences is None:
            return set(part.labels.tolist())
        return set(np.flatnonzero(part.occurrences.sum(axis=0)).tolist())


def preview(items: Sequence[object], limit: int = 10) -> str:
    """Return the first items, comma-separated, and how many more there are.

    >>> preview([3, 1, 4, 1, 5], limit=2)
    '3, 1 and 3 more'
    """
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + more
