"""Find the columns of a table that `data.columns` names. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from sft_keras.recipe.data import Column


def find_columns(column: Column, existing: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the columns that a value of `data.columns` stands for.

    Args:
      column: A name; a position from 0; several of these; or, as a command line has them, several
        names separated by commas.
      existing: The columns of the table.

    Returns:
      (names of existing columns; what is not found, as text).

    Example:
      >>> find_columns(1, ["text", "label"])
      (['label'], [])
      >>> find_columns("toxic,insult", ["text", "toxic", "insult"])
      (['toxic', 'insult'], [])
      >>> find_columns("stars", ["text", "label"])
      ([], ['stars'])
    """
    if isinstance(column, str) and column not in existing and "," in column:
        column = tuple(name.strip() for name in column.split(","))
    found, missing = [], []
    for item in column if isinstance(column, tuple) else (column,):
        if isinstance(item, int) and 0 <= item < len(existing):
            found.append(existing[item])
        elif item in existing:
            found.append(str(item))
        else:
            missing.append(f"column {item}" if isinstance(item, int) else item)
    return found, missing
