"""The rows that a run asks for, and where they are found."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from sft_keras.cache.boundary import Boundary
from sft_keras.cache.disk import Collection
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.stored_features import StoredFeatures
from sft_keras.data.features import Features, InMemoryFeatures
from sft_keras.data.prepared import Prepared


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The rows of one boundary for one split.

    Attributes:
      boundary: Where they come from.
      prepared: The split.
      names: uint8 [rows, DIGEST_SIZE].
      views: How many rows each example has; None if they are no augmented views.
    """

    boundary: Boundary
    prepared: Prepared
    names: np.ndarray
    views: int | None = None

    def read_from(self, features: Features) -> Prepared:
        """Returns the split with these features in place of its images."""
        return dataclasses.replace(
            self.prepared,
            features=features,
            views=self.views or 1,
            has_targets=self.views is not None,
        )

    def in_memory(self, memory: MemoryStore) -> Features | None:
        """Returns the rows if all of them are in memory."""
        rows = memory.find(self.boundary.key, self.names)
        if (rows < 0).any():
            return None
        tensors = tf.nest.pack_sequence_as(self.boundary.like, memory.tensors(self.boundary.key))
        return InMemoryFeatures(tensors, rows, self.boundary.like)

    def on_disk(self, collection: Collection) -> Features | None:
        """Returns the rows if all of them are in a collection on disk."""
        rows = collection.find(self.names)
        if (rows < 0).any():
            return None
        return StoredFeatures(collection, rows, list(self.boundary.stored), self.boundary.like)
