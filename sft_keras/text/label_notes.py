"""Notes on labels that look like mistakes: several spellings of one name, several names in one."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from sft_keras.data.listing import preview

_CLEAR = (";", "|", ",", "\t")  # which names of classes rarely hold
_UNCLEAR = ("/", "+", "&", "#", ":", "-", " ")  # which they may hold
_FEW = 0.1  # share of compound labels that is no accident
_LONGEST_NUMBER = 30  # characters


def spelling_notes(counts: Mapping[str, int]) -> list[str]:
    """Return a note on classes whose names differ only in case, blanks or as 1 and 1.0 do.

    Args:
      counts: Number of examples by class name.

    Example:
      >>> spelling_notes({"pos": 9, "Pos": 1, "neg": 8})
      ["Classes whose names differ only in spelling: 'pos' (9) and 'Pos' (1). They are trained as \
different classes. If they are the same, give them one name."]
    """
    variants = defaultdict(list)
    for name in counts:
        variants[_spelling(name)].append(name)
    groups = [
        " and ".join(
            f"{name!r} ({counts[name]})" for name in sorted(names, key=lambda name: -counts[name])
        )
        for names in variants.values()
        if len(names) > 1
    ]
    if not groups:
        return []
    return [
        f"Classes whose names differ only in spelling: {preview(groups)}. They are trained as "
        "different classes. If they are the same, give them one name."
    ]


def _spelling(name: str) -> str:
    """Return what different spellings of a name have in common."""
    if len(name) <= _LONGEST_NUMBER:
        try:
            number = Decimal(name)
        except InvalidOperation:
            pass
        else:
            return str(number.normalize() if number.is_finite() else number)
    return "".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


def separator_notes(labels: Iterable[Sequence[str]], separator: str) -> list[str]:
    """Return a note if no text has two labels but labels seem to be several names in one.

    Args:
      labels: The names of each text's labels.
      separator: What separates names now.

    Example:
      >>> separator_notes([["toxic|insult"], ["toxic"], ["insult"]], ",")
      ["No text has two labels, but 1 of 3 labels hold '|', for example 'toxic|insult'. If it \
separates labels, set it: --set=task.label_separator='|'."]
    """
    labels = list(labels)
    if any(len(names) > 1 for names in labels):
        return []
    counts = Counter(name for names in labels for name in names)
    total = sum(counts.values())
    for candidate in dict.fromkeys((separator, *_CLEAR, *_UNCLEAR)):
        compound = [name for name in counts if len(_parts(name, candidate)) > 1]
        known = [
            name for name in compound if any(part in counts for part in _parts(name, candidate))
        ]
        is_clear = candidate in _CLEAR or candidate == separator
        likely = compound if is_clear and _share(compound, counts) >= _FEW else known
        if not likely or (not is_clear and len(likely) < len(compound) / 2):
            continue
        count = sum(counts[name] for name in likely)
        found = (
            f"No text has two labels, but {count} of {total} labels hold {candidate!r}, for "
            f"example {likely[0]!r}."
        )
        if candidate == separator:
            return [f"{found} Lists of labels must have one label per item."]
        return [
            f"{found} If it separates labels, set it: --set=task.label_separator={candidate!r}."
        ]
    return []


def _parts(name: str, separator: str) -> list[str]:
    parts = name.split() if separator == " " else name.split(separator)
    return [part.strip() for part in parts if part.strip()]


def _share(names: Iterable[str], counts: Mapping[str, int]) -> float:
    return sum(counts[name] for name in names) / max(1, sum(counts.values()))
