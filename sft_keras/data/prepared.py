"""One split, ready to be batched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.bucketing import PAD_MULTIPLE, few_lengths_multiple
from sft_keras.data.examples import Examples
from sft_keras.data.features import Features, Structure


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One split, all of whose examples are known to be readable.

    Attributes:
      examples: The split.
      features: The model input of each example, in stored order; None if inputs are computed from
        `examples.stream` each time.
      read: Maps an element of `examples.stream` to its model input, in a graph; None if there are
        features.
      digests: uint8 [n, DIGEST_SIZE], the hash of each example's model input without random
        augmentation. Equal hashes mean equal inputs, in any run.
      views: Number of rows per example in `features`: view v of example i is row v * n + i.
      lengths: int64 [n], tokens per example; None if all inputs have the same size. Batches then
        hold examples of similar length and are padded to their longest.
      pad_to_multiple_of: Batch lengths are rounded up to a multiple of this many tokens.
      targets: The y of each example; None if that is the label itself. Targets with a token axis
        are padded as the inputs are.
      details: Whatever else the task keeps per example, for evaluation and display.
      parents: int64 [n] where the model reads parts of examples, such as windows of a passage: the
        position in the split of the example that each part belongs to; `examples` are the parts.
      facts: Facts on the split for the report, in addition to `DataInfo`; plain values.
      has_targets: Whether rows are {"input": model input, "target": y}, as those of augmented
        views, whose labels may be mixed.
    """

    examples: Examples
    features: Features | None = dataclasses.field(repr=False)
    read: Callable[[dict[str, tf.Tensor]], Structure] | None = dataclasses.field(repr=False)
    digests: np.ndarray = dataclasses.field(repr=False)
    lengths: np.ndarray | None = dataclasses.field(default=None, repr=False)
    pad_to_multiple_of: int = PAD_MULTIPLE
    views: int = 1
    has_targets: bool = False
    targets: Features | None = dataclasses.field(default=None, repr=False)
    details: Sequence[Any] | None = dataclasses.field(default=None, repr=False)
    parents: np.ndarray | None = dataclasses.field(default=None, repr=False)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def rows_of(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows of the examples at `positions` of the split, or of all their parts."""
        if self.parents is None:
            return positions
        return np.flatnonzero(np.isin(self.parents, positions))

    def require_features(self) -> Features:
        """Return `features`.

        Raises:
          ValueError: If there are none, since inputs are computed from the stream.
        """
        if self.features is None:
            raise ValueError(f"The split {self.examples.name!r} has no stored features.")
        return self.features

    def require_read(self) -> Callable[[dict[str, tf.Tensor]], Structure]:
        """Return `read`.

        Raises:
          ValueError: If there is none, since inputs are stored features.
        """
        if self.read is None:
            raise ValueError(f"The split {self.examples.name!r} has stored features, no reader.")
        return self.read

    def require_targets(self) -> Features:
        """Return `targets`.

        Raises:
          ValueError: If there are none, since the targets are the labels.
        """
        if self.targets is None:
            raise ValueError(f"The split {self.examples.name!r} has no targets beside its labels.")
        return self.targets

    def with_few_lengths(self) -> Prepared:
        """Return the split padded so coarsely that its batches have at most four lengths."""
        if self.lengths is None:
            return self
        multiple = few_lengths_multiple(int(self.lengths.max()))
        return dataclasses.replace(self, pad_to_multiple_of=multiple)

    def subset(self, positions: np.ndarray) -> Prepared:
        """Return the examples at `positions`, int64 [m] in ascending order, without views."""
        details = self.details
        return Prepared(
            examples=self.examples.subset(positions),
            features=None if self.features is None else self.features.subset(positions),
            read=self.read,
            digests=self.digests[positions],
            lengths=None if self.lengths is None else self.lengths[positions],
            pad_to_multiple_of=self.pad_to_multiple_of,
            targets=None if self.targets is None else self.targets.subset(positions),
            details=None if details is None else [details[position] for position in positions],
            parents=None if self.parents is None else self.parents[positions],
        )
