"""Parse delimited text, such as CSV, with the dialect found in it. Standard library only.

A dialect is tried on the whole text and accepted if it accounts for every quote and gives every row
as many values as the header has. `csv.Sniffer` does not help: it looks at letter frequencies.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE = 2**16  # characters in which the delimiter is looked for
_CONSISTENT = 0.9  # share of sampled rows with as many values as the header
_DECLARED = re.compile(r'"?sep=(.)"?\r?\n')  # a first line that Excel writes and reads

Quoting = Literal["doubled", "backslash", "after blanks", "none"]
Rows = list[tuple[int, list[str]]]
"""The line in which a row starts, from 1, and its values."""


@dataclasses.dataclass(frozen=True)
class Delimited:
    """Parsed rows.

    Attributes:
      rows: All rows that are not blank lines, the header included.
      delimiter: What separates their values.
      notes: Sentences on a dialect other than the expected one, without a subject.
      unclosed: Lines of rows with a quote that is not closed in its place, and where it is closed.
    """

    rows: Rows
    delimiter: str
    notes: tuple[str, ...]
    unclosed: dict[int, int]


def parse_delimited(
    text: str, delimiter: str | None, expected: str, names: Collection[str]
) -> Delimited:
    """Parse a text with the dialect that fits it.

    Args:
      text: The content of a file.
      delimiter: What separates the columns; None to find it in the text.
      expected: The delimiter to prefer if none is given.
      names: Names that the header should hold.
    """
    notes = []
    declared = _DECLARED.match(text)
    first_line = 1
    if declared is not None:
        delimiter, text, first_line = delimiter or declared[1], text[declared.end() :], 2
    if delimiter is None:
        delimiter = sniff_delimiter(text, expected, names)
        if delimiter != expected:
            notes.append(f"has columns separated by {DELIMITERS[delimiter]}")
    lines = list(io.StringIO(text, newline=""))
    # The whole text may be one value, and by default the reader refuses values of 128 kB.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    quoting, rows = _fitting_rows(lines, delimiter, text)
    unclosed = {}
    if quoting == "doubled" and rows is None:
        rows = list(_rows(lines, delimiter, "doubled", strict=False))
        unclosed = _unclosed(rows, lines, delimiter)
    elif quoting != "doubled":
        notes.append(_QUOTING_NOTES[quoting])
    shifted = [(line + first_line - 1, values) for line, values in rows or []]
    moved = {start + first_line - 1: end + first_line - 1 for start, end in unclosed.items()}
    return Delimited(shifted, delimiter, tuple(notes), moved)


_QUOTING_NOTES = {
    "backslash": "has quotes escaped by backslashes, which were undone",
    "after blanks": "has blanks before quoted values, which were removed",
    "none": "has quotes that enclose no values, which were read as ordinary characters",
}


def sniff_delimiter(text: str, expected: str, names: Collection[str]) -> str:
    """Return the delimiter under which rows have as many values as the header has.

    Args:
      text: The content of a file.
      expected: The delimiter to prefer.
      names: Names that the header should hold, which decide if several delimiters fit.

    Example:
      >>> sniff_delimiter("text;label\\nDull, really;bad\\n", ",", ["text", "label"])
      ';'
    """
    sample = text[:_SAMPLE]
    if len(text) > len(sample):
        sample = sample[: sample.rfind("\n") + 1] or sample
    lines = list(io.StringIO(sample, newline=""))
    csv.field_size_limit(max(csv.field_size_limit(), len(sample) + 1))
    best, best_score = expected, (-1, -1.0, -1)
    for delimiter in dict.fromkeys((expected, *DELIMITERS)):
        rows = [values for _, values in _rows(lines, delimiter, "doubled", strict=False)]
        if not rows or len(rows[0]) < 2:
            continue
        header = {value.strip() for value in rows[0]}
        others = rows[1:-1] if len(text) > len(sample) else rows[1:]
        fitting = sum(_fits(values, len(rows[0])) for values in others)
        share = fitting / len(others) if others else 1.0
        score = (len(header & set(names)), share, int(delimiter == expected))
        if (share >= _CONSISTENT or score[0] or delimiter == expected) and score > best_score:
            best, best_score = delimiter, score
    return best


def _fits(values: Sequence[str], width: int) -> bool:
    """Return whether a row has as many values as the header, or more that are empty."""
    return len(values) >= width and not any(map(str.strip, values[width:]))


def _fitting_rows(lines: Sequence[str], delimiter: str, text: str) -> tuple[Quoting, Rows | None]:
    """Return how values are quoted, and the rows; None if no way of quoting fits entirely."""
    rows = _strict_rows(lines, delimiter, "doubled")
    if '"' not in text:
        return "doubled", rows
    plain = list(_rows(lines, delimiter, "none", strict=False))
    plain_fits = _num_fitting(plain) == len(plain) and len(plain[0][1]) > 1
    if rows is not None and len(rows) < len(plain) and plain_fits:
        # Every line being a row of its own is no accident: quotes that span lines are none then.
        return "none", plain
    if rows is not None and _num_fitting(rows) == len(rows):
        return "doubled", rows
    others: list[Quoting] = ["backslash", "after blanks"]
    for quoting in others if '\\"' in text else others[1:]:
        other = _strict_rows(lines, delimiter, quoting)
        if other and _num_fitting(other) == len(other):
            return quoting, other
    if rows is not None:
        return "doubled", rows
    lenient = list(_rows(lines, delimiter, "doubled", strict=False))
    unclosed = _unclosed(lenient, lines, delimiter)
    fitting = _num_fitting([row for row in lenient if row[0] not in unclosed])
    # In tables separated by tabs, most quotes that enclose no value are part of the text.
    if (unclosed or delimiter == "\t") and _num_fitting(plain) >= fitting:
        return "none", plain
    return "doubled", None


def _num_fitting(rows: Rows) -> int:
    """Return how many rows fit the first one, the header."""
    return sum(_fits(values, len(rows[0][1])) for _, values in rows)


def _strict_rows(lines: Sequence[str], delimiter: str, quoting: Quoting) -> Rows | None:
    """Return the rows; None if a quote is not closed, or closed within a value."""
    try:
        return list(_rows(lines, delimiter, quoting, strict=True))
    except csv.Error:
        return None


def _rows(
    lines: Sequence[str], delimiter: str, quoting: Quoting, *, strict: bool
) -> Iterator[tuple[int, list[str]]]:
    options: dict[str, Any] = {}
    if quoting == "backslash":
        options = {"escapechar": "\\", "doublequote": False}
    elif quoting == "after blanks":
        options = {"skipinitialspace": True}
    elif quoting == "none":
        options = {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(lines, delimiter=delimiter, strict=strict, **options)
    start = 1
    for values in reader:
        if values and (len(values) > 1 or values[0].strip() or '"' in lines[start - 1]):
            yield start, values
        start = reader.line_num + 1


def _unclosed(rows: Rows, lines: Sequence[str], delimiter: str) -> dict[int, int]:
    """Return {first line: last line} of rows that quotes closed within a value extend over lines.

    A quote that is closed within a value on its own line is common and harmless: it is dropped, as
    other readers do.
    """
    ends = [line - 1 for line, _ in rows[1:]] + [len(lines)]
    return {
        start: end
        for (start, _), end in zip(rows, ends)
        if (end > start or end == len(lines))
        and _has_stray_quote("".join(lines[start - 1 : end]), delimiter)
    }


def _has_stray_quote(row: str, delimiter: str) -> bool:
    """Return whether a quoted value that spans lines is not closed, or closed within the value."""
    position = 0
    while position < len(row):
        if row[position] == '"':
            start = position
            position = row.find('"', start + 1)
            while position >= 0 and row[position + 1 : position + 2] == '"':
                position = row.find('"', position + 2)
            if position < 0:
                return True
            position += 1
            is_closed = row[position : position + 1] in ("", delimiter, "\r", "\n")
            if not is_closed and "\n" in row[start:position].replace("\r", "\n"):
                return True
        position = row.find(delimiter, position)
        if position < 0:
            return False
        position += 1
    return False
