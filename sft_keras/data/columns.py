"""Find the columns of a table that `data.columns` names. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sft_keras.recipe.data import Column

_LONGEST_NAME = 60  # characters of a column's name
_MOST_WORDS = 6
_SAMPLE = 200  # rows


def find_columns(column: Column, existing: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the positions of the columns that a value of `data.columns` stands for.

    Args:
      column: A name; a position from 0; several of these; or, as a command line has them, several
        names or positions separated by commas.
      existing: The columns of the table.

    Returns:
      (positions of existing columns; what is not found, as text).

    Example:
      >>> find_columns(1, ["text", "label"])
      ([1], [])
      >>> find_columns("toxic,insult", ["text", "toxic", "insult"])
      ([1, 2], [])
      >>> find_columns("stars", ["text", "label"])
      ([], ['stars'])
    """
    if isinstance(column, str) and column not in existing and "," in column:
        parts = [part.strip() for part in column.split(",")]
        column = tuple(int(part) if part.isdecimal() else part for part in parts)
    found: list[int] = []
    missing: list[str] = []
    for item in column if isinstance(column, tuple) else (column,):
        if isinstance(item, int):
            is_found = 0 <= item < len(existing)
            found += [item] if is_found else []
            missing += [] if is_found else [f"column {item}"]
            continue
        count = existing.count(item)
        if count == 1:
            found.append(existing.index(item))
        else:
            missing.append(item if not count else f"{item} (the name of {count} columns)")
    return found, missing


def is_position(column: Column) -> bool:
    """Return whether a value of `data.columns` names columns by position only."""
    if isinstance(column, str):
        parts = column.split(",")
        return len(parts) > 1 and all(part.strip().isdecimal() for part in parts)
    return isinstance(column, int) or all(isinstance(item, int) for item in column)


def looks_like_header(first: Sequence[Any], rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether the first row of a table holds the names of its columns.

    It does not if one of its values is a number or long text, or occurs again in its column.

    Args:
      first: The first row.
      rows: The others.

    Example:
      >>> looks_like_header(["text", "label"], [["Dull.", "bad"], ["Great.", "good"]])
      True
      >>> looks_like_header(["Dull.", "bad"], [["Great.", "good"], ["So dull.", "bad"]])
      False
    """
    others = [row for row in rows[:_SAMPLE] if list(row) != list(first)]
    for position, value in enumerate(first):
        text = str(value).strip()
        if _is_number(text) or len(text) > _LONGEST_NAME or len(text.split()) > _MOST_WORDS:
            return False
        column = {str(row[position]).strip() for row in others if position < len(row)}
        if text and text in column:
            return False
    return True


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
