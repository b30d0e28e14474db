"""Formats the measurements of exported files as text. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_HEADS = (
    "format",
    "bytes",
    "largest difference",
    "agreement",
    "",  # the name of the score
    "ms, batch of 1",
    "ms, batch of 32",
    "file",
)
_MAX_CLASSES = 40


def format_table(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that summarize the contents of exports.json."""
    rows = manifest["rows"]
    if not rows:
        yield "No file was kept."
        return
    score = f"{rows[0]['score']['name']}, trained -> exported"
    table = [[head or score for head in _HEADS], *map(_cells, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADS))]
    for row in table:
        yield "  ".join(
            cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
    threads = sorted({row["threads"] for row in rows})
    yield (
        f"On {rows[0]['examples']} test examples. Latency: median per call, batches of 1 and 32, "
        f"on {' or '.join(map(str, threads))} thread{'s' if threads != [1] else ''}."
    )
    for row in rows:
        if "validation" in row:
            yield from _quantization_loss(row)
    if manifest["tokenizer"]:
        tokenizer = manifest["tokenizer"]
        yield f"{tokenizer['note']} Tokens by id: {tokenizer['vocabulary']}."


def _cells(row: Mapping[str, Any]) -> list[str]:
    score, times = row["score"], row["milliseconds"]
    return [
        row["format"],
        f"{row['bytes']:,}",
        f"{row['largest_difference']:.2g}",
        f"{row['agreement']:.2%}",
        f"{score['trained']:.4f} -> {score['exported']:.4f}",
        f"{times['1']:.2f}",
        f"{times['32']:.1f}",
        row["file"],
    ]


def _quantization_loss(row: Mapping[str, Any]) -> Iterator[str]:
    for split, score in (("validation", row["validation"]), ("test", row["score"])):
        yield (
            f"{row['format']}  {score['name']} on {split} {score['trained']:.4f} -> "
            f"{score['exported']:.4f} ({100 * (score['exported'] - score['trained']):+.2f} points)"
        )
    width = max(len(entry["name"]) for entry in row["per_class"])
    for entry in row["per_class"][:_MAX_CLASSES]:
        yield (
            f"  {entry['name']:{width}}  recall {entry['trained']:.4f} -> {entry['exported']:.4f} "
            f"({entry['support']})"
        )
    if len(row["per_class"]) > _MAX_CLASSES:
        yield f"  ... and {len(row['per_class']) - _MAX_CLASSES} more classes"
