"""Texts and labels that are in memory already. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.recipe.in_memory import InMemorySource

_Given = tuple[Sequence[str | tuple[str, str]], Sequence[str | float | Sequence[str | int]]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Texts(InMemorySource):
    """A data source made of lists.

    Each split is (texts, labels): texts strings, or pairs of strings; labels, as many, strings or
    whole numbers, or lists of these where a text may have any number of labels, or any numbers
    where a number is to be predicted.

    Attributes:
      train: The training split.
      validation: The validation split; None to have it split off from `train`.
      test: The test split; None to have it split off from `train`.
    """

    train: _Given
    validation: _Given | None = None
    test: _Given | None = None

    def __repr__(self) -> str:
        sizes = (f"{name}={len(labels)}" for name, (_, labels) in self.given().items())
        return f"Texts({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Returns what is wrong with the lists, one sentence each."""
        faults = []
        for name, (texts, labels) in self.given().items():
            if len(texts) != len(labels):
                faults.append(
                    f"`{name}` must have as many labels as texts. "
                    f"Received: {len(texts)} texts and {len(labels)} labels."
                )
            wrong = next((each for each in texts if not _is_text(each)), None)
            if wrong is not None:
                faults.append(
                    f"The texts of `{name}` must be strings, or pairs of them. Received: {wrong!r}."
                )
        sizes = {1 if isinstance(text, str) else 2 for t, _ in self.given().values() for text in t}
        if len(sizes) > 1:
            faults.append("The texts must all be strings, or all be pairs. Received: both.")
        return faults


def _is_text(value: object) -> bool:
    if isinstance(value, str):
        return True
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    )
