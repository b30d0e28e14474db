"""What was measured of exported files, as lines of text. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_HEADS = ("format", "bytes", "largest difference", "same class", "", "1, ms", "32, ms", "file")
_SHOWN_CLASSES = 40


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines to print of what exports.json holds."""
    rows = facts["rows"]
    if not rows:
        yield "No file was kept."
        return
    score = f"{rows[0]['score']['name']}, trained to exported"
    table = [[head or score for head in _HEADS], *map(_cells, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    for row in table:
        yield "  ".join(
            cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
    threads = sorted({row["threads"] for row in rows})
    yield (
        f"On {rows[0]['examples']} test examples. Latency: the median call for a batch of 1 and of "
        f"32, on {' or '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."
    )
    for row in rows:
        if "validation" in row:
            yield from _loss(row)
    if facts["tokenizer"]:
        yield f"{facts['tokenizer']['note']} Their ids: {facts['tokenizer']['vocabulary']}."


def _cells(row: Mapping[str, Any]) -> list[str]:
    score, times = row["score"], row["milliseconds"]
    return [
        row["format"],
        f"{row['bytes']:,}",
        f"{row['largest_difference']:.2g}",
        f"{row['agreement']:.2%}",
        f"{score['trained']:.4f} to {score['exported']:.4f}",
        f"{times['1']:.2f}",
        f"{times['32']:.1f}",
        row["file"],
    ]


def _loss(row: Mapping[str, Any]) -> Iterator[str]:
    for split, score in (("validation", row["validation"]), ("test", row["score"])):
        yield (
            f"{row['format']}  {score['name']} on {split} {score['trained']:.4f} to "
            f"{score['exported']:.4f} ({100 * (score['exported'] - score['trained']):+.2f} points)"
        )
    width = max(len(one["name"]) for one in row["per_class"])
    for one in row["per_class"][:_SHOWN_CLASSES]:
        yield (
            f"  {one['name']:{width}}  found {one['trained']:.4f} to {one['exported']:.4f} "
            f"of {one['support']}"
        )
    if len(row["per_class"]) > _SHOWN_CLASSES:
        yield f"  ... and {len(row['per_class']) - _SHOWN_CLASSES} more classes"
