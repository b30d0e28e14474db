"""The columns of a file of tagged words: which hold the words and the tags. No TensorFlow.

Files differ in what stands beside the words and tags: an index before each word, further columns,
a header, comments. `read_columns` splits a file into rows, `find_layout` identifies the columns.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sft_keras.core.errors import DataError
from sft_keras.tasks.token_classification.sentences import is_blank
from sft_keras.tasks.token_classification.tag_schemes import OUTSIDE, TagFormat

_DOCUMENT_START = "-DOCSTART-"
_WORD_NAME = re.compile(r"words?|tokens?|text|form")
_TAG_NAME = re.compile(r"tags?|labels?|((ner|iob2?|bio|bioes)(tags?)?)|ne|entity|entities|slots?")
# The types of the shared task on chunking (Tjong Kim Sang & Buchholz 2000), not of entities.
_CHUNK = re.compile(r"NP|VP|PP|ADVP|SBAR|ADJP|PRT|CONJP|INTJ|LST|UCP")
_INDEX = re.compile(r"\d+([-.:]\d+)?")  # also of words joined by "-" or added by "."
_IS_TAG_COLUMN = 0.9  # least share of valid tags
_STRIPPED = " \t\r\v\f\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NO-BREAK SPACE}"


_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Row:
    """A line that is not empty.

    Attributes:
      line: Its number, from 1.
      text: The line.
      cells: Its columns, without the white space around them.
    """

    line: int
    text: str
    cells: tuple[str, ...]

    @property
    def begins_with_hash(self) -> bool:
        """Whether this may be a comment."""
        return self.text.startswith("#")


@dataclasses.dataclass(frozen=True)
class ColumnFile:
    """A file as rows.

    Attributes:
      path: The file.
      sentences: The rows between empty lines and document starts.
      num_columns: The number of columns of most rows.
    """

    path: Path
    sentences: tuple[tuple[Row, ...], ...]
    num_columns: int

    @property
    def rows(self) -> list[Row]:
        """All rows, comments and a header included."""
        return [row for sentence in self.sentences for row in sentence]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The positions of the columns, from 0.

    Attributes:
      word: The column of the words.
      tag: The column of the tags.
      has_index: Whether the first column counts the words.
      header: The header's line number and columns, or None.
    """

    word: int
    tag: int
    has_index: bool = False
    header: Row | None = None

    def note(self, num_columns: int) -> str | None:
        """Return a sentence on the columns, or None for the usual ones: the first and the last."""
        if (self.word, self.tag) == (0, num_columns - 1):
            return None
        return (
            f"The words were read from column {self.word} and the tags from column {self.tag} of "
            f"the columns 0 to {num_columns - 1}; `data.columns` selects others, as in "
            f'{{"text": {self.word}, "label": {self.tag}}}.'
        )


def read_columns(path: Path, text: str) -> ColumnFile:
    """Split the text of a file into rows of columns, which tabs or blanks separate."""
    sentences: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip(_STRIPPED):
            sentences[-1].append((number, line))
        elif sentences[-1]:
            sentences.append([])
    lines = [line for sentence in sentences for _, line in sentence if not line.startswith("#")]
    has_tabs = 2 * sum("\t" in line for line in lines) >= len(lines)
    widths = Counter(
        len(_cells(line, has_tabs, None)) for line in lines if _DOCUMENT_START not in line
    )
    num_columns = widths.most_common(1)[0][0] if widths else 2
    rows_by_sentence: list[list[Row]] = [[]]
    for sentence in sentences:
        for number, line in sentence:
            cells = _cells(line, has_tabs, num_columns)
            if _DOCUMENT_START in cells[:3]:
                rows_by_sentence.append([])
            else:
                rows_by_sentence[-1].append(Row(number, line, cells))
        rows_by_sentence.append([])
    return ColumnFile(path, tuple(tuple(rows) for rows in rows_by_sentence if rows), num_columns)


def _cells(line: str, has_tabs: bool, num_columns: int | None) -> tuple[str, ...]:
    """Split a line, at tabs if the file has them; in another way if this gives other columns."""
    # Not `split()`: a no-break space belongs to its word, as in "10 000".
    by_blanks = re.split(r"[ \t]+", line.strip(" \t\r"))
    if not has_tabs and line[0] in " \t":
        by_blanks.insert(0, "")  # a word that is missing or blank
    by_tabs = line.rstrip("\r").split("\t")
    ways: tuple[list[str], ...] = (by_tabs, by_blanks) if has_tabs else (by_blanks, by_tabs)
    cells = ways[0]
    if num_columns is not None and len(cells) != num_columns:
        ways = (*ways, [cell for cell in by_blanks if cell], line.split())
        cells = next((way for way in ways if len(way) == num_columns), cells)
    return tuple(cell.strip(_STRIPPED) for cell in cells)


def find_layout(file: ColumnFile, tags: TagFormat, columns: Mapping[str, Any]) -> Layout:
    """Identify the columns of a file.

    Args:
      file: The file.
      tags: The format of the tags.
      columns: `Data.columns`; "text" and "label" select columns by position from 0, or by the name
        in a header.

    Raises:
      DataError: If `columns` names a column that the file does not have.
    """
    body = [row for row in file.rows if not row.begins_with_hash]
    first = body[0] if body else None
    header = first if first is not None and _is_named_by(columns, first) else None
    rows = [row for row in body if len(row.cells) == file.num_columns and row is not header]
    sample = [row.cells for row in rows]
    num_indices = 0
    while num_indices < file.num_columns - 2 and _is_index(sample, num_indices):
        num_indices += 1
    word = _selected(file, columns.get("text"), header)
    tag = _selected(file, columns.get("label"), header)
    is_word_selected = word is not None
    if word is None:
        word = num_indices if first is None else _word_column(first, file.num_columns, num_indices)
    if tag is None:
        tag = _find_tags(sample, file.num_columns, word, tags, num_indices > 0)
    if word == tag and not is_word_selected:  # the tags come first
        word = min(word + 1, file.num_columns - 1)
    layout = Layout(word, tag, num_indices > 0, header)
    if header is None and len(body) > 1 and _is_header(body[0], layout, tags):
        return dataclasses.replace(layout, header=first)
    return layout


def _is_named_by(columns: Mapping[str, Any], row: Row) -> bool:
    names = [name for name in columns.values() if isinstance(name, str) and not _is_number(name)]
    return bool(names) and all(name in row.cells for name in names)


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _selected(file: ColumnFile, column: Any, header: Row | None) -> int | None:
    """Return the position of a column that the user selects by position or name, or None."""
    if column is None:
        return None
    if isinstance(column, str) and header is not None and column in header.cells:
        return header.cells.index(column)
    is_position = isinstance(column, int) or (isinstance(column, str) and _is_number(column))
    position = int(column) if is_position else None
    if position is None or not -file.num_columns <= position < file.num_columns:
        rows = file.rows
        names = f" Its first line is {rows[0].text.strip()[:80]!r}." if rows else ""
        raise DataError(
            f"`data.columns` must name columns of {file.path} by position, from 0 to "
            f"{file.num_columns - 1}, or by their names in its first line. "
            f"Received: {column!r}.{names}"
        )
    return position % file.num_columns


def _is_index(sample: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column] for row in _without_header(sample)]
    return len(cells) > 1 and all(map(_INDEX.fullmatch, cells))


def _without_header(sample: Sequence[_T]) -> Sequence[_T]:
    """Return the rows without the first, which may be a header, if there are enough others."""
    return sample[1:] if len(sample) > 2 else sample


def _find_tags(
    sample: Sequence[Sequence[str]],
    num_columns: int,
    word: int,
    tags: TagFormat,
    has_index: bool,
) -> int:
    """Return the column of the tags: the last of those that hold valid tags.

    Of several after an index and a word, as in GermEval 2014, the first has the outer entities and
    the others those nested in them.
    """
    parsed = [[tags.parse(cells[column]) for cells in sample] for column in range(num_columns)]
    is_plain = tags.scheme == "IO"  # where any text is a valid tag
    shares = [
        sum(tag == OUTSIDE if is_plain else tag is not None for tag in column) / max(len(column), 1)
        for column in map(_without_header, parsed)
    ]
    others = [column for column in range(num_columns) if column != word] or [word]
    best = max(others, key=lambda column: (shares[column], column))
    if is_plain or shares[best] < _IS_TAG_COLUMN:
        if not shares[best] and shares[word] >= _IS_TAG_COLUMN:
            return word
        return best if shares[best] else num_columns - 1
    candidates = [column for column in others if shares[column] >= _IS_TAG_COLUMN]
    types = {column: {tag[2:] for tag in parsed[column] if tag} - {""} for column in candidates}
    after_word = word + 1
    if has_index and types.get(after_word) and not all(map(_CHUNK.fullmatch, types[after_word])):
        return after_word
    return max(candidates, key=lambda column: (bool(types[column]), column))


def _word_column(first: Row, num_columns: int, default: int) -> int:
    """Return the column whose name in a header, if `first` is one, is that of words."""
    names = [_name(cell) for cell in first.cells]
    if len(names) != num_columns or not any(map(_TAG_NAME.fullmatch, names)):
        return default
    return next(
        (column for column, name in enumerate(names) if _WORD_NAME.fullmatch(name)), default
    )


def _is_header(row: Row, layout: Layout, tags: TagFormat) -> bool:
    names = [_name(cell) for cell in row.cells]
    has_word_name = any(map(_WORD_NAME.fullmatch, names))
    has_tag_name = any(map(_TAG_NAME.fullmatch, names))
    if layout.tag >= len(row.cells) or tags.scheme == "IO":
        return has_word_name and has_tag_name
    is_tag = tags.parse(row.cells[layout.tag]) is not None
    return not is_tag and (has_tag_name or has_word_name)


def _name(cell: str) -> str:
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def is_comment(row: Row, layout: Layout, num_columns: int, is_tag: Callable[[str], bool]) -> bool:
    """Return whether a row is a comment, and not the word "#" or one that begins with it.

    Args:
      row: The row.
      layout: The columns.
      num_columns: The number of columns of most rows.
      is_tag: Whether a cell holds a tag of the file.
    """
    if not row.begins_with_hash:
        return False
    if layout.has_index or len(row.cells) != num_columns:
        return True
    return not is_tag(row.cells[layout.tag]) or is_blank(row.cells[layout.word])
