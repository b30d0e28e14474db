"""A request for the rows of one boundary and one split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from sft_keras.cache.boundary import Boundary
from sft_keras.cache.disk import Collection
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.stored_features import StoredFeatures
from sft_keras.data.features import Features, InMemoryFeatures
from sft_keras.data.prepared import Prepared


@dataclasses.dataclass(frozen=True)
class RowRequest:
    """The rows of one boundary for one split.

    Attributes:
      boundary: The boundary that the rows are computed at.
      prepared: The split.
      names: Row names, uint8 [rows, DIGEST_SIZE].
      views: Augmented views per example; None if the rows are not augmented.
    """

    boundary: Boundary
    prepared: Prepared
    names: np.ndarray
    views: int | None = None

    def with_features(self, features: Features) -> Prepared:
        """Return the split with its inputs replaced by cached features."""
        return dataclasses.replace(
            self.prepared,
            features=features,
            views=self.views or 1,
            has_targets=self.views is not None,
        )

    def in_memory(self, memory: MemoryStore) -> Features | None:
        """Return the rows if all of them are in memory."""
        rows = memory.find(self.boundary.key, self.names)
        if (rows < 0).any():
            return None
        tensors = tf.nest.pack_sequence_as(self.boundary.like, memory.tensors(self.boundary.key))
        return InMemoryFeatures(tensors, rows, self.boundary.like)

    def on_disk(self, collection: Collection) -> Features | None:
        """Return the rows if all of them are in a collection on disk."""
        rows = collection.find(self.names)
        if (rows < 0).any():
            return None
        return StoredFeatures(collection, rows, list(self.boundary.stored), self.boundary.like)


SplitRequests = Mapping[str, RowRequest]
"""The rows of one boundary, by split name."""
