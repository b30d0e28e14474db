"""Tagged sentences as read from a source, and their conversion to IOB2. Does not import TensorFlow.

Every source of tagged words, files and Python lists alike, converts its tags here, so that
irregular tags and blank words are treated and counted in one way.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import preview
from sft_keras.tasks.token_classification.tag_schemes import (
    OUTSIDE,
    detect_scheme,
    is_valid_transition,
    to_iob2,
)

_LENIENT = ("IO", "IOB1", "IOB2")
"""Schemes in which every sequence of tags has one reading: an entity begins where one can."""
_MAX_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Sentence:
    """The words of a sentence with their tags.

    Attributes:
      name: Where it is from, e.g. "train[3]".
      words: The words as in the source.
      tags: One tag per word, in IOB2.
    """

    name: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclasses.dataclass
class RawSentence:
    """A sentence as in its source.

    Attributes:
      origin: The file, or the sentence's place in a list, e.g. "train[3]".
      noun: What `numbers` count: "line" or "word".
      words: The words; they may be blank.
      tags: One tag per word, "O" or PREFIX-TYPE, in any scheme.
      numbers: The line of each word in a file, or its position in the sentence.
    """

    origin: str
    noun: str
    words: list[str] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)
    numbers: list[int] = dataclasses.field(default_factory=list)

    def place(self, index: int) -> str:
        """Return where a word is, e.g. "a.conll: line 4"."""
        return f"{self.origin}: {self.noun} {self.numbers[index]}"


@dataclasses.dataclass(frozen=True)
class TaggedSentences:
    """The sentences of a source.

    Attributes:
      by_split: The sentences of each split.
      scheme: The scheme of their tags in the source.
      notes: Sentences on how the source was read, see `DataInfo.facts`.
      dropped: {what: how many were dropped}.
    """

    by_split: Mapping[str, Sequence[Sentence]]
    scheme: str
    notes: tuple[str, ...] = ()
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)


def is_blank(word: str) -> bool:
    """Return whether a word has only white space, zero-width and control characters.

    >>> is_blank(" \\u200b"), is_blank("10\\u00a0000")
    (True, False)
    """
    return all(letter.isspace() or unicodedata.category(letter) in ("Cf", "Cc") for letter in word)


def to_tagged_sentences(
    raw: Mapping[str, Sequence[RawSentence]], scheme: str | None = None, drop_faulty: bool = False
) -> TaggedSentences:
    """Convert the tags of a source to IOB2, and drop its blank words.

    Args:
      raw: The sentences of each split.
      scheme: The scheme of the tags; None to detect it.
      drop_faulty: Whether sentences whose tags contradict their scheme are dropped.

    Raises:
      DataError: If tags in IOBES or BILOU contradict their scheme and are not dropped. Tags in IOB1
        and IOB2 can be read nevertheless; the notes count them.
    """
    scheme = scheme or detect_scheme(
        sentence.tags for sentences in raw.values() for sentence in sentences
    )
    irregular = {
        id(sentence): places
        for sentences in raw.values()
        for sentence in sentences
        if (places := list(_irregular_tags(sentence, scheme)))
    }
    all_places = [place for places in irregular.values() for place in places]
    is_lenient = scheme in _LENIENT
    if irregular and not is_lenient and not drop_faulty:
        raise _contradiction(all_places, scheme)
    faulty = set() if is_lenient else set(irregular)
    by_split: dict[str, list[Sentence]] = {}
    num_blank = 0
    for split, sentences in raw.items():
        by_split[split] = []
        for number, sentence in enumerate(sentences):
            words, tags = _without_blank_words(sentence.words, to_iob2(sentence.tags))
            num_blank += len(sentence.words) - len(words)
            if words and id(sentence) not in faulty:
                by_split[split].append(Sentence(f"{split}[{number}]", words, tags))
    dropped = {"blank words": num_blank, "sentences with tags out of order": len(faulty)}
    return TaggedSentences(
        by_split,
        scheme,
        notes=tuple(_irregular_notes(all_places, scheme)) if is_lenient else (),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _without_blank_words(
    words: Sequence[str], tags: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words that are not blank with their IOB2 tags."""
    if not any(map(is_blank, words)):
        return tuple(words), tuple(tags)
    kept_words, kept_tags = [], []
    lost_beginning: str | None = None  # of an entity whose other words may remain
    for word, tag in zip(words, tags):
        begins = tag.startswith("B-")
        if is_blank(word):
            lost_beginning = tag[2:] if begins or lost_beginning == tag[2:] else None
            continue
        is_first_left = tag.startswith("I-") and lost_beginning == tag[2:]
        kept_words.append(word)
        kept_tags.append(f"B-{tag[2:]}" if is_first_left else tag)
        lost_beginning = None
    return tuple(kept_words), tuple(kept_tags)


def _irregular_tags(sentence: RawSentence, scheme: str) -> Iterator[str]:
    """Yield "PLACE: TAG after TAG" for each tag that may not follow the one before it."""
    previous = OUTSIDE
    for index, tag in enumerate(sentence.tags):
        if not is_valid_transition(previous, tag, scheme):
            yield f"{sentence.place(index)}: {tag} after {previous}"
        previous = tag
    if sentence.tags and not is_valid_transition(previous, OUTSIDE, scheme):
        yield f"{sentence.place(-1)}: {previous} at the end of a sentence"


def _irregular_notes(places: Sequence[str], scheme: str) -> Iterator[str]:
    if not places:
        return
    noun = "1 tag was" if len(places) == 1 else f"{len(places):,} tags were"
    where = f"({preview(places, limit=3)})"
    if scheme == "IOB2":
        yield (
            f"{noun} I-TYPE after O or after another type and read as B-TYPE, the beginning of an "
            f"entity {where}."
        )
    else:
        yield f"{noun} B-TYPE where {scheme} has I-TYPE, and begins an entity all the same {where}."


def _contradiction(places: Sequence[str], scheme: str) -> DataError:
    return DataError(
        numbered(
            f"{len(places)} tags may not follow the tag before them in {scheme}, the scheme of the "
            "other tags. Correct these lines, or drop their sentences with "
            "--set=data.on_fault=drop.",
            [*places[:_MAX_SHOWN], *(["and so on"] if len(places) > _MAX_SHOWN else [])],
        )
    )
