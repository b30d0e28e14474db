"""In-memory words and tags as a data source. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Integral

from sft_keras.recipe.in_memory import InMemorySource

_MAX_SHOWN = 120  # characters of a received value

_Split = tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TaggedWords(InMemorySource):
    """Words and tags from Python lists, as the data source of `TokenClassification`.

    Each split is (sentences, tags): for each sentence a list of words and a list of as many tags.
    Tags are "O", "B-TYPE" and "I-TYPE", or in IOB1, IOBES or BILOU; for tags without prefixes see
    `TokenClassification.tag_scheme`.

    Example:

    >>> from sft_keras import Data, TaggedWords
    >>> source = TaggedWords(
    ...     train=(
    ...         [["Ada", "Lovelace", "lived", "in", "London"], ["It", "rains"]],
    ...         [["B-PER", "I-PER", "O", "O", "B-LOC"], ["O", "O"]],
    ...     )
    ... )
    >>> Data(source=source).source
    TaggedWords(train=2)

    Attributes:
      train: The training split.
      validation: The validation split; None to split it off from `train`.
      test: The test split; None to split it off from `train`.
    """

    train: _Split
    validation: _Split | None = None
    test: _Split | None = None

    def __repr__(self) -> str:
        sizes = (
            f"{split}={len(value[0]) if _is_pair(value) else '?'}"
            for split, value in self.given().items()
        )
        return f"TaggedWords({', '.join(sizes)})"

    def faults(self) -> list[str]:
        """Return the faults of the splits, at most two messages per split."""
        faults = []
        for split, value in self.given().items():
            if not _is_pair(value):
                faults.append(
                    f"`{split}` must be a pair of lists, (sentences, tags). "
                    f"Received: {repr(value)[:_MAX_SHOWN]}. Pairs of words and tags become two "
                    f"lists with `tuple(zip(*pairs))`."
                )
                continue
            sentences, tags_by_sentence = value
            if len(sentences) != len(tags_by_sentence):
                faults.append(
                    f"`{split}` must have as many lists of tags as of words. Received: "
                    f"{len(sentences)} lists of words and {len(tags_by_sentence)} lists of tags."
                )
            for index, (words, tags) in enumerate(zip(sentences, tags_by_sentence)):
                fault = _sentence_fault(words, tags)
                if fault:
                    faults.append(f"{split}[{index}] {fault}")
                    break
        return faults


def _is_pair(value: object) -> bool:
    """Return whether a value is a pair of lists of lists, of which no inner one is checked."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(hasattr(part, "__len__") and not isinstance(part, str) for part in value)
    )


def _sentence_fault(words: Sequence[str], tags: Sequence[str]) -> str | None:
    if isinstance(words, str) or not all(isinstance(word, str) and word for word in words):
        return f"must be a list of words, none of them empty. Received: {words!r}."
    if isinstance(tags, str) or not all(isinstance(tag, str | Integral) for tag in tags):
        return f"must have a list of tags. Received: {repr(tags)[:_MAX_SHOWN]}."
    if len(words) != len(tags):
        return f"must have one tag per word. Received: {len(words)} words, {len(tags)} tags."
    return None
