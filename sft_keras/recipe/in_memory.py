"""The base class of in-memory data sources. Standard library only."""

from __future__ import annotations

from typing import Any


class InMemorySource:
    """Base of in-memory sources, which have one field per split.

    Attributes:
      train: The training split.
      validation: The validation split; None to hold out a share of `train`.
      test: The same for the test split.
    """

    train: Any
    validation: Any
    test: Any

    def given(self) -> dict[str, Any]:
        """Return {split name: split} without those that are None, "train" first."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}
