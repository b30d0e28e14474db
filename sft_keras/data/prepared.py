"""One split, ready to be batched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.bucketing import PLACES, few_lengths_multiple
from sft_keras.data.examples import Examples
from sft_keras.data.features import Features, Structure


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One split, every example of which is known to be readable.

    Attributes:
      examples: The split.
      features: What the model reads for each example, in stored order; None if it is made anew
        each time from `examples.stream`.
      read: Makes it from an element of `examples.stream`, in a graph; None if there are features.
      digests: uint8 [n, DIGEST_SIZE]; the hash of what the model reads for each example, with
        nothing drawn at random. Equal ones mean equal inputs, in any run.
      views: How many rows `features` has for each example: view v of example i is row v * n + i.
      lengths: int64 [n], how many tokens each example has; None where inputs are all of one size.
        Batches are then made of examples of like length, and cut to the longest of theirs.
      pad_to_multiple_of: Of how many places the length of such a batch is a multiple.
      targets: The y of each example; None where that is its label alone. Targets with a place for
        each token are cut as the inputs are.
      details: What else the task keeps of each example, for `evaluate` and the like.
      parents: Where what the model reads are parts of examples, int64 [n]: the position in the
        split of the one that each is a part of. `examples` are the parts then.
      facts: What the report says of the split beside what `DataInfo` knows; plain values.
      has_targets: Whether rows are {"input": what the model reads, "target": its y}, as those of
        views are, whose labels may be mixed.
    """

    examples: Examples
    features: Features | None = dataclasses.field(repr=False)
    read: Callable[[dict[str, tf.Tensor]], Structure] | None = dataclasses.field(repr=False)
    digests: np.ndarray = dataclasses.field(repr=False)
    lengths: np.ndarray | None = dataclasses.field(default=None, repr=False)
    pad_to_multiple_of: int = PLACES
    views: int = 1
    has_targets: bool = False
    targets: Features | None = dataclasses.field(default=None, repr=False)
    details: Sequence[Any] | None = dataclasses.field(default=None, repr=False)
    parents: np.ndarray | None = dataclasses.field(default=None, repr=False)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def rows_of(self, positions: np.ndarray) -> np.ndarray:
        """Returns where the examples at `positions` of the split are, or all parts of them."""
        if self.parents is None:
            return positions
        return np.flatnonzero(np.isin(self.parents, positions))

    def with_few_lengths(self) -> Prepared:
        """Returns the split such that its batches have four lengths at most."""
        if self.lengths is None:
            return self
        return dataclasses.replace(
            self, pad_to_multiple_of=few_lengths_multiple(int(self.lengths.max()))
        )

    def subset(self, positions: np.ndarray) -> Prepared:
        """Returns the examples at `positions`, int64 [m] in ascending order; views are dropped."""
        return Prepared(
            examples=self.examples.subset(positions),
            features=None if self.features is None else self.features.subset(positions),
            read=self.read,
            digests=self.digests[positions],
            lengths=None if self.lengths is None else self.lengths[positions],
            pad_to_multiple_of=self.pad_to_multiple_of,
            targets=None if self.targets is None else self.targets.subset(positions),
            details=None if self.details is None else [self.details[each] for each in positions],
            parents=None if self.parents is None else self.parents[positions],
        )
