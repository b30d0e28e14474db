"""Clean texts; drop empty ones and duplicates. Does not import TensorFlow."""

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

# The letter must follow immediately, so that "a < b" is not a tag.
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_COMMENT_OR_TAG = re.compile(rf"<!--.*?-->|{_TAG.pattern}", re.DOTALL)
_COMMENT_END = "-->"
# Not a valid character; `html.unescape` fails for more digits.
_LONG_NUMBER = re.compile(r"&#[0-9]{4000,};?")


@dataclasses.dataclass(frozen=True)
class TextRow:
    """A labelled text or text pair.

    Attributes:
      name: The id of the example.
      texts: One or two texts.
      label: The label from the source, or as parsed by a `LabelKind`.
      place: Where the row is in its file, for messages, e.g. "line 12".
    """

    name: str
    texts: tuple[str, ...]
    label: Any
    place: str = ""


def clean_text(text: str, clean: Clean) -> str:
    """Return a text after HTML removal, Unicode normalization and white space cleanup."""
    if clean.html:
        # After the last comment end, no comments are searched: that would take quadratic time.
        head, end, rest = text.rpartition(_COMMENT_END)
        text = _COMMENT_OR_TAG.sub(" ", head + end) + _TAG.sub(" ", rest)
        text = html.unescape(_LONG_NUMBER.sub("\N{REPLACEMENT CHARACTER}", text))
    if clean.unicode is not None:
        text = unicodedata.normalize(clean.unicode, text)
    return " ".join(text.split()) if clean.whitespace else text


def clean_rows(
    rows_by_split: Mapping[str, Sequence[TextRow]], clean: Clean
) -> tuple[dict[str, list[TextRow]], dict[str, int]]:
    """Clean all texts and drop empty and duplicate ones.

    Args:
      rows_by_split: The rows of each split, with parsed labels.
      clean: The cleaning to apply.

    Returns:
      (the remaining rows by split, {reason: number of dropped rows}).
    """
    dropped: Counter[str] = Counter(dict.fromkeys(("empty", "duplicate", "in another split"), 0))
    kept: dict[str, list[TextRow]] = {}
    for split, rows in rows_by_split.items():
        cleaned = [
            dataclasses.replace(row, texts=tuple(clean_text(text, clean) for text in row.texts))
            for row in rows
        ]
        nonempty = [row for row in cleaned if all(text.strip() for text in row.texts)]
        dropped["empty"] += len(cleaned) - len(nonempty)
        kept[split] = nonempty
        if clean.duplicates:
            kept[split] = list(_without_duplicates(nonempty))
            dropped["duplicate"] += len(nonempty) - len(kept[split])
    if clean.duplicates and "train" in kept:
        held_out = {row.texts for split in kept if split != "train" for row in kept[split]}
        train = [row for row in kept["train"] if row.texts not in held_out]
        dropped["in another split"] += len(kept["train"]) - len(train)
        kept["train"] = train
    return kept, dict(dropped)


def _without_duplicates(rows: Iterable[TextRow]) -> Iterable[TextRow]:
    """Yield the first of all rows with the same texts and label."""
    seen = set()
    for row in rows:
        if (row.texts, row.label) not in seen:
            seen.add((row.texts, row.label))
            yield row
