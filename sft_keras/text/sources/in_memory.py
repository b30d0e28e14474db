"""Texts and labels in memory. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.recipe.in_memory import InMemorySource

_Pair = tuple[Sequence[str | tuple[str, str]], Sequence[str | float | Sequence[str | int]]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Texts(InMemorySource):
    """Texts and labels in memory, as a data source.

    Each split is (texts, labels) of equal length. Texts are strings or pairs of strings. Labels are
    strings or whole numbers; lists of these for multi-label classification; or any numbers for
    regression.

    Attributes:
      train: The training split.
      validation: The validation split; None to create it from `train`.
      test: The test split; None to create it from `train`.

    Example:

    >>> from sft_keras import Data, Texts
    >>> source = Texts(train=(["Great film.", "A waste of time."] * 20, ["good", "bad"] * 20))
    >>> source
    Texts(train=40)
    >>> data = Data(source=source, validation=0.2, test=0.2)
    """

    train: _Pair
    validation: _Pair | None = None
    test: _Pair | None = None

    def __repr__(self) -> str:
        sizes = (f"{name}={len(labels)}" for name, (_, labels) in self.given().items())
        return f"Texts({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Return what is wrong with the lists, one sentence each."""
        faults = []
        for name, (texts, labels) in self.given().items():
            if len(texts) != len(labels):
                faults.append(
                    f"`{name}` must have as many labels as texts. "
                    f"Received: {len(texts)} texts and {len(labels)} labels."
                )
            invalid = next((text for text in texts if not _is_text(text)), None)
            if invalid is not None:
                faults.append(
                    f"The texts of `{name}` must be strings or pairs of strings. "
                    f"Received: {invalid!r}."
                )
        sizes = {1 if isinstance(text, str) else 2 for t, _ in self.given().values() for text in t}
        if len(sizes) > 1:
            faults.append("The texts must be either all strings or all pairs. Received: both.")
        return faults


def _is_text(value: object) -> bool:
    if isinstance(value, str):
        return True
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    )
