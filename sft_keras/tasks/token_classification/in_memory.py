"""Words and tags that are in memory already. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sft_keras.recipe.in_memory import InMemorySource

_Split = tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TaggedWords(InMemorySource):
    """A data source made of lists.

    Each split is (sentences, tags): a list of words for each sentence, and as many tags, "O" or
    "B-TYPE" and "I-TYPE" (or in IOB1, IOBES or BILOU).

    Attributes:
      train: The training split.
      validation: The validation split; None to have it split off from `train`.
      test: The test split; None to have it split off from `train`.
    """

    train: _Split
    validation: _Split | None = None
    test: _Split | None = None

    def __repr__(self) -> str:
        sizes = (f"{name}={len(words)}" for name, (words, _) in self.given().items())
        return f"TaggedWords({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Returns what is wrong with the lists, one sentence each."""
        faults = []
        for name, (sentences, tags) in self.given().items():
            if len(sentences) != len(tags):
                faults.append(
                    f"`{name}` must have as many lists of tags as of words. "
                    f"Received: {len(sentences)} of words and {len(tags)} of tags."
                )
            for number, (words, own) in enumerate(zip(sentences, tags)):
                reason = _fault(words, own)
                if reason:
                    faults.append(f"{name}[{number}] {reason}")
                    break
        return faults


def _fault(words: Sequence[str], tags: Sequence[str]) -> str | None:
    if isinstance(words, str) or not all(isinstance(word, str) and word for word in words):
        return f"must be a list of words, none of them empty. Received: {words!r}."
    if len(words) != len(tags):
        return f"must have a tag for each word. Received: {len(words)} words, {len(tags)} tags."
    return None
