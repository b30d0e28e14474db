"""Tagging schemes for entities: IOB1, IOB2, IOBES and BILOU. Standard library only.

A tag is "O" (outside) or PREFIX-TYPE. Internally, all tags are in IOB2: "B-TYPE" for the first word
of an entity, "I-TYPE" for its other words. Sources: Tjong Kim Sang & De Meulder 2003, section 2
(IOB1); Ratinov & Roth 2009 (comparison of the schemes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

OUTSIDE = "O"

_PREFIXES = ("B", "I", "E", "S", "L", "U")
_BEGINNING = ("B", "S", "U")  # an entity begins with the word, whatever comes before it
_ENDING = ("E", "S", "L", "U")  # an entity ends with the word, whatever comes after it
_CONTINUING = ("I", "E", "L")  # in IOBES and BILOU: an entity has begun before the word


def is_valid_tag(text: str) -> bool:
    """Return whether a text is a tag of one of the schemes."""
    prefix, dash, entity_type = text.partition("-")
    return text == OUTSIDE or (prefix in _PREFIXES and bool(dash) and bool(entity_type))


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Convert the tags of a sentence, of any scheme, to IOB2.

    Example:

    >>> from sft_keras.tasks.token_classification.tag_schemes import to_iob2
    >>> to_iob2(["I-PER", "I-PER", "O", "S-LOC"])
    ['B-PER', 'I-PER', 'O', 'B-LOC']
    """
    converted: list[str] = []
    open_type: str | None = None  # the type of the entity that the next word may continue
    for tag in tags:
        prefix, _, entity_type = tag.partition("-")
        if tag == OUTSIDE:
            open_type = None
            converted.append(OUTSIDE)
            continue
        continues = open_type == entity_type and prefix not in _BEGINNING
        converted.append(f"{'I' if continues else 'B'}-{entity_type}")
        open_type = None if prefix in _ENDING else entity_type
    return converted


def detect_scheme(sentences: Iterable[Sequence[str]]) -> str:
    """Return the scheme of the tags of some sentences: "IOB1", "IOB2", "IOBES" or "BILOU".

    Between IOB1 and IOB2, the prefix that begins most entities decides.
    """
    prefixes: set[str] = set()
    first_prefixes: Counter[str] = Counter()
    for tags in sentences:
        for previous, tag in zip((OUTSIDE, *tags), tags):
            prefix, _, entity_type = tag.partition("-")
            prefixes.add(prefix)
            if entity_type and previous.partition("-")[2] != entity_type:
                first_prefixes[prefix] += 1
    if prefixes & {"E", "S"}:
        return "IOBES"
    if prefixes & {"L", "U"}:
        return "BILOU"
    return "IOB1" if first_prefixes["I"] > first_prefixes["B"] else "IOB2"


def is_valid_transition(previous: str, tag: str, scheme: str) -> bool:
    """Return whether a tag may follow another one in a scheme.

    Args:
      previous: The tag before it, "O" at the start of a sentence.
      tag: The tag, "O" at the end of a sentence.
      scheme: See `detect_scheme`.
    """
    same_type = previous.partition("-")[2] == tag.partition("-")[2] != ""
    previous_prefix, prefix = previous[0], tag[0]
    if scheme == "IOB2":
        return prefix != "I" or same_type
    if scheme == "IOB1":
        return prefix != "B" or same_type
    continues = prefix in _CONTINUING
    is_open = previous_prefix in ("B", "I")
    return continues == is_open and (not continues or same_type)
