"""Number formats of the report. None, an unknown value, becomes a dash."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

DASH = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"
_SPELLINGS = {
    "f1": "F1",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def percent(share: float | None) -> str:
    """Return a fraction in 0..1 as a percentage; only exact 0 and 1 give 0.0 % and 100.0 %."""
    if share is None:
        return DASH
    for digits in (1, 2, 3, 4):
        text = f"{100 * share:.{digits}f}"
        if share in (0, 1) or float(text) not in (0.0, 100.0):
            break
    return f"{text}{_SPACE}%"


def interval(estimate: dict[str, Any]) -> str:
    """Return the bounds of {"value", "low", "high"} (fractions in 0..1) as "95.1 to 98.6 %"."""
    low, high = percent(estimate["low"]), percent(estimate["high"])
    return f"{low.removesuffix(f'{_SPACE}%')} to {high}".replace(" ", _SPACE)


def metric_value(value: float | None, metric: Mapping[str, Any] | None = None) -> str:
    """Return the value of a metric: a share as a percentage, others with four digits.

    Args:
      value: The value.
      metric: The metric as plain values, with "is_share"; None for a share.
    """
    if metric is None or metric["is_share"]:
        return percent(value)
    return DASH if value is None else f"{value:.4g}"


def metric_interval(estimate: dict[str, Any], metric: Mapping[str, Any] | None = None) -> str:
    """Return the bounds of {"value", "low", "high"}, in the unit of `metric_value`."""
    if metric is None or metric["is_share"]:
        return interval(estimate)
    low, high = metric_value(estimate["low"], metric), metric_value(estimate["high"], metric)
    return f"{low} to {high}".replace(" ", _SPACE)


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` decimal places."""
    return DASH if value is None else f"{value:.{digits}f}"


def compact(value: float | None) -> str:
    """Return a number with three significant digits, in exponent form where that is shorter."""
    return DASH if value is None else f"{value:.3g}"


def count(value: int | None) -> str:
    """Return an integer with its thousands separated by a narrow space."""
    return DASH if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun in singular or plural: "1 class", "10 classes"."""
    return f"{count(value)}{_SPACE}{noun if value == 1 else plural or noun + 's'}"


def metric_label(name: str) -> str:
    """Return the name of a metric for use in a sentence: "macro F1" for "macro_f1"."""
    words = name.replace("_", " ").split()
    return " ".join(_SPELLINGS.get(word, word) for word in words)


def singular(plural: str) -> str:
    """Return the singular of a regular plural: "entity" for "entities"."""
    return plural.removesuffix("ies") + "y" if plural.endswith("ies") else plural.removesuffix("s")


def duration(seconds: float | None) -> str:
    """Return a duration in readable units: "1.2 s", "1 min 10 s", "2 h 5 min"."""
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
    """Return an ISO 8601 time as "1 January 2026, 12:00 UTC"."""
    time = datetime.fromisoformat(text)
    return f"{time.day} {time:%B %Y, %H:%M %Z}".strip()


def trained_part(blocks: int | str, adapter: Mapping[str, Any] | None = None) -> str:
    """Return in words what a stage trains, e.g. "head and top 2 blocks".

    Args:
      blocks: The stage's `unfreeze`: the number of trainable blocks from the top, or "all".
      adapter: The stage's LoRA adapter as plain values, with its `rank`; None without one.
    """
    if blocks == 0:
        return "head only"
    adapters = f"rank-{adapter['rank']} adapters in " if adapter else ""
    if blocks == "all":
        return f"head and {adapters}{'the ' if adapters else ''}whole backbone"
    top = f"top {'block' if blocks == 1 else f'{blocks} blocks'}"
    return f"head and {adapters}{'the ' if adapters else ''}{top}"


FILTERS = {
    function.__name__: function
    for function in (
        percent,
        interval,
        metric_value,
        metric_interval,
        decimal,
        compact,
        count,
        metric_label,
        singular,
        duration,
        moment,
        trained_part,
    )
}
