"""How the report's page writes figures. None, which stands for "not known", becomes a dash."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

DASH = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"
_SPELT = {
    "f1": "F1",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def percent(share: float | None) -> str:
    """Returns a share in 0..1 as per cent; only 0 and 1 themselves become 0.0 % and 100.0 %."""
    if share is None:
        return DASH
    for digits in (1, 2, 3, 4):
        text = f"{100 * share:.{digits}f}"
        if share in (0, 1) or float(text) not in (0.0, 100.0):
            break
    return f"{text}{_SPACE}%"


def interval(estimate: dict[str, Any]) -> str:
    """Returns the bounds of {"value", "low", "high"} (shares in 0..1) as "95.1 to 98.6 %"."""
    low, high = percent(estimate["low"]), percent(estimate["high"])
    return f"{low.removesuffix(f'{_SPACE}%')} to {high}".replace(" ", _SPACE)


def decimal(value: float | None, digits: int = 3) -> str:
    """Returns a number with `digits` behind the point."""
    return DASH if value is None else f"{value:.{digits}f}"


def compact(value: float | None) -> str:
    """Returns a number in three significant digits, as an exponent where that is shorter."""
    return DASH if value is None else f"{value:.3g}"


def count(value: int | None) -> str:
    """Returns a whole number with its thousands apart."""
    return DASH if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """Returns `value` and the noun in the right number: "1 class", "10 classes"."""
    return f"{count(value)}{_SPACE}{noun if value == 1 else plural or noun + 's'}"


def figure_name(name: str) -> str:
    """Returns what a figure is called in a sentence: "macro F1" for "macro_f1"."""
    words = name.replace("_", " ").split()
    return " ".join(_SPELT.get(word, word) for word in words)


def singular(plural: str) -> str:
    """Returns the singular of what is counted: "entity" for "entities"."""
    return plural.removesuffix("ies") + "y" if plural.endswith("ies") else plural.removesuffix("s")


def duration(seconds: float | None) -> str:
    """Returns seconds as a person says them: "1.2 s", "1 min 10 s", "2 h 5 min"."""
    if seconds is None:
        return DASH
    if seconds < 59.95:
        text = f"{seconds:.1f} s"
    elif seconds < 3599.5:
        text = f"{round(seconds) // 60} min {round(seconds) % 60} s"
    else:
        text = f"{round(seconds / 60) // 60} h {round(seconds / 60) % 60} min"
    return text.replace(" ", _SPACE)


def moment(text: str) -> str:
    """Returns an ISO 8601 time as "1 January 2026, 12:00 UTC"."""
    when = datetime.fromisoformat(text)
    return f"{when.day} {when:%B %Y, %H:%M %Z}".strip()


def unfrozen(blocks: int | str, adapter: Mapping[str, Any] | None = None) -> str:
    """Returns in words what a stage trains, from its `unfreeze` and its adapters' `rank`."""
    if blocks == 0:
        return "head alone"
    within = f"adapters of rank {adapter['rank']} in " if adapter else ""
    if blocks == "all":
        return f"head and {within}{'the ' if within else ''}whole backbone"
    top = f"top {'block' if blocks == 1 else f'{blocks} blocks'}"
    return f"head and {within}{'the ' if within else ''}{top}"


FILTERS = {
    function.__name__: function
    for function in (
        percent,
        interval,
        decimal,
        compact,
        count,
        figure_name,
        singular,
        duration,
        moment,
        unfrozen,
    )
}
