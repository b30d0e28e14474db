"""Cleans texts and drops what would spoil the result. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sft_keras.text.clean_config import Clean

# A letter must follow at once, so that "a < b" is no tag.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_COMMENT_OR_TAG = re.compile(rf"<!--.*?-->|{_TAG.pattern}", re.DOTALL)
_COMMENT_END = "-->"
# What stands for no character. Python's own reader of entities fails for more digits.
_LONG_NUMBER = re.compile(r"&#[0-9]{4000,};?")


@dataclasses.dataclass(frozen=True)
class TextRow:
    """A labelled text, or a pair of them.

    Attributes:
      name: What the example is called.
      texts: One or two.
      label: As the source has it, or what a `LabelKind` made of that.
    """

    name: str
    texts: tuple[str, ...]
    label: Any


def clean_text(text: str, clean: Clean) -> str:
    """Returns a text as the recipe wants it."""
    if clean.html:
        # Behind the last end of a comment none is searched, which takes the square of the time.
        begun, end, rest = text.rpartition(_COMMENT_END)
        text = _COMMENT_OR_TAG.sub(" ", begun + end) + _TAG.sub(" ", rest)
        text = html.unescape(_LONG_NUMBER.sub("\N{REPLACEMENT CHARACTER}", text))
    if clean.unicode is not None:
        text = unicodedata.normalize(clean.unicode, text)
    return " ".join(text.split()) if clean.whitespace else text


def clean_rows(
    rows_by_split: Mapping[str, Sequence[TextRow]], clean: Clean
) -> tuple[dict[str, list[TextRow]], dict[str, int]]:
    """Returns the rows with cleaned texts, without those dropped, and {why: how many were}."""
    dropped: Counter[str] = Counter(dict.fromkeys(("empty", "duplicate", "in another split"), 0))
    found: dict[str, list[TextRow]] = {}
    for split, rows in rows_by_split.items():
        kept = [
            dataclasses.replace(row, texts=tuple(clean_text(text, clean) for text in row.texts))
            for row in rows
        ]
        filled = [row for row in kept if all(text.strip() for text in row.texts)]
        dropped["empty"] += len(kept) - len(filled)
        found[split] = filled
        if clean.duplicates:
            found[split] = list(_different(filled))
            dropped["duplicate"] += len(filled) - len(found[split])
    if clean.duplicates and "train" in found:
        others = {row.texts for split in found if split != "train" for row in found[split]}
        train = [row for row in found["train"] if row.texts not in others]
        dropped["in another split"] += len(found["train"]) - len(train)
        found["train"] = train
    return found, dict(dropped)


def _different(rows: Iterable[TextRow]) -> Iterable[TextRow]:
    """Yields the first of the rows that are alike."""
    seen = set()
    for row in rows:
        if (row.texts, row.label) not in seen:
            seen.add((row.texts, row.label))
            yield row
