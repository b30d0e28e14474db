"""What data sources that are in memory have in common. Standard library only."""

from __future__ import annotations

from typing import Any


class InMemorySource:
    """A source with a field for each split; that of a split which is to be made is None."""

    train: Any
    validation: Any
    test: Any

    def given(self) -> dict[str, Any]:
        """Returns the splits that are there, by name, "train" first."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}
