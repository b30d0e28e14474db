"""Tagging schemes for entities: IOB1, IOB2, IOBES and BILOU. Standard library only.

A tag is "O" (outside) or PREFIX-TYPE. Internally, all tags are in IOB2: "B-TYPE" for the first word
of an entity, "I-TYPE" for its other words. Sources: Tjong Kim Sang & De Meulder 2003, section 2
(IOB1); Ratinov & Roth 2009 (comparison of the schemes).
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Literal

OUTSIDE = "O"

_PREFIXES = {**{prefix: prefix for prefix in "BIESLU"}, "M": "I", "b": "B", "i": "I"}
"""{prefix as written: prefix}; "M" (middle) is the "I" of the BMES scheme."""
_ONLY_TYPE = "ENTITY"
"""The type of tags that are prefixes only, as in sources with one type of entity."""
_BEGINNING = ("B", "S", "U")  # an entity begins with the word, whatever comes before it
_ENDING = ("E", "S", "L", "U")  # an entity ends with the word, whatever comes after it
_CONTINUING = ("I", "E", "L")  # in IOBES and BILOU: an entity has begun before the word


@dataclasses.dataclass(frozen=True)
class TagFormat:
    """How tags are written in a source.

    Attributes:
      scheme: "auto" for tags with prefixes, in any of the schemes above; "IO" for plain types.
      outside: The tag of words outside entities.
    """

    scheme: Literal["auto", "IO"] = "auto"
    outside: str = OUTSIDE

    def parse(self, text: object) -> str | None:
        """Return a tag as "O" or PREFIX-TYPE, or None if it is not valid.

        Example:

        >>> TagFormat().parse("B_PER"), TagFormat().parse("PER"), TagFormat("IO").parse("PER")
        ('B-PER', None, 'I-PER')
        """
        if not isinstance(text, str):
            return None
        if text == self.outside:
            return OUTSIDE
        if self.scheme == "IO":
            return f"I-{text}" if text and not _has_prefix(text) else None
        if text in (OUTSIDE, "o"):
            return OUTSIDE
        if text in ("B", "I", "E", "S", "L", "U"):
            return f"{text}-{_ONLY_TYPE}"
        return f"{_PREFIXES[text[0]]}-{text[2:]}" if _has_prefix(text) else None


DEFAULT_FORMAT = TagFormat()


def _has_prefix(text: str) -> bool:
    return len(text) > 2 and text[0] in _PREFIXES and text[1] in "-_"


def invalid_tags_hint(counts: Mapping[object, int], tag_format: TagFormat) -> str:
    """Return the option that reads the tags of a source, as a sentence after a blank; or "".

    Args:
      counts: {tag: number of words} of all tags, valid or not.
      tag_format: The format in which they are not valid.
    """
    if any(isinstance(tag, Integral) for tag in counts):
        return (
            " Tags must be texts; replace class numbers by their names, e.g. with "
            "`[names[tag] for tag in tags]`."
        )
    invalid = {tag: count for tag, count in counts.items() if tag_format.parse(tag) is None}
    parsed = {tag_format.parse(tag) for tag in counts} - {None}
    if tag_format.scheme == "IO":
        return " These have prefixes: remove task.tag_scheme, whose default reads them."
    if OUTSIDE not in parsed and parsed and len(invalid) == 1:
        (outside,) = invalid
        option = shlex.quote(f"--set=task.outside_tag={outside}")
        return f" If {outside!r} marks words outside entities, add {option}"
    if parsed - {OUTSIDE}:
        return ""
    hint = " Read tags without the prefixes B- and I- with --set=task.tag_scheme=IO"
    if OUTSIDE not in parsed:
        most_common = max(invalid, key=invalid.__getitem__)
        hint += f" --set=task.outside_tag=TAG, the tag of words outside entities ({most_common!r}?)"
    return f"{hint}: adjacent words of one type are then one entity."


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
      scheme: See `detect_scheme`; or "IO".
    """
    same_type = previous.partition("-")[2] == tag.partition("-")[2] != ""
    previous_prefix, prefix = previous[0], tag[0]
    if scheme == "IO":
        return True
    if scheme == "IOB2":
        return prefix != "I" or same_type
    if scheme == "IOB1":
        return prefix != "B" or same_type
    continues = prefix in _CONTINUING
    is_open = previous_prefix in ("B", "I")
    return continues == is_open and (not continues or same_type)
