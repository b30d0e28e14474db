"""Reader of tagged sentences in the columns of the CoNLL shared tasks. Does not import TensorFlow.

Source: Tjong Kim Sang & De Meulder 2003, section 2.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.encodings import read_text, universal_newlines
from sft_keras.data.listing import parse_split_name, preview
from sft_keras.data.split_files import (
    find_split_files,
    skipped_note,
    usable_entries,
)
from sft_keras.tasks.token_classification.columns import (
    ColumnFile,
    Layout,
    Row,
    find_layout,
    is_comment,
    read_columns,
)
from sft_keras.tasks.token_classification.sentences import (
    RawSentence,
    TaggedSentences,
    to_tagged_sentences,
)
from sft_keras.tasks.token_classification.tag_schemes import (
    DEFAULT_FORMAT,
    TagFormat,
    invalid_tags_hint,
)

_MAX_SHOWN = 5
_UNSEPARATED = 400  # words; a single "sentence" of more has no empty lines between sentences
# The names of CoNLL 2002 and 2003: eng.train, eng.testa, eng.testb.
_CONLL_SPLITS = {"testa": "validation", "testb": "test"}
_OTHER_FILES = re.compile(
    r"\.(md|rst|py|ipynb|sh|html?|pdf|xml|json|gz|bz2|xz|zip|tar|tgz|7z|rar)$", re.IGNORECASE
)


def read_conll(
    path: str,
    tags: TagFormat = DEFAULT_FORMAT,
    columns: Mapping[str, Any] = MappingProxyType({}),
    drop_faulty: bool = False,
    encoding: str | None = None,
) -> TaggedSentences:
    """Read a file, or a folder with one file or one folder per split.

    Each line is a word, any other columns, and the tag, separated by blanks or tabs; an empty line
    ends a sentence. Tags may be in IOB1, IOB2, IOBES or BILOU and are converted to IOB2. An index
    before the words, a header and comments are recognized.

    Args:
      path: Path of the file, whose sentences all are the "train" split, or of the folder.
      tags: The format of the tags.
      columns: Positions or names of the columns "text" and "label"; they are found if missing.
      drop_faulty: Whether to drop sentences with a faulty line instead of raising.
      encoding: As in `Data.encoding`.

    Raises:
      DataError: If the path does not exist, or if a line or a tag is not valid.
    """
    unknown = [name for name in columns if name not in ("text", "label")]
    if unknown:
        raise DataError(
            "`data.columns` of a CoNLL file selects the columns 'text' and 'label', its words and "
            f"tags. Received: {', '.join(map(repr, unknown))}. Remove it."
        )
    notes: list[str] = []
    expected = "a file for training, whose name or folder says train"
    files = find_split_files(f"conll:{path}", lambda folder: _find_files(folder, notes), expected)
    opened = {
        split: read_columns(file, universal_newlines(read_text(file, encoding)))
        for split, file in files.items()
    }
    layouts: dict[int, Layout] = {}  # by number of columns, so that all splits are read alike
    raw: dict[str, list[RawSentence]] = {}
    dropped: Counter[str] = Counter()
    for split, file in sorted(opened.items(), key=lambda item: item[0] != "train"):
        reading = _Reading(file, tags, columns, layouts.get(file.num_columns))
        layouts.setdefault(file.num_columns, reading.layout)
        raw[split] = reading.sentences(drop_faulty)
        notes += [note for note in reading.notes if note not in notes]
        dropped.update(reading.dropped)
    _require_sentences(raw["train"], files["train"])
    scheme = "IO" if tags.scheme == "IO" else None
    converted = to_tagged_sentences({split: raw[split] for split in files}, scheme, drop_faulty)
    return dataclasses.replace(
        converted,
        notes=(*notes, *converted.notes),
        dropped={**+dropped, **converted.dropped},  # without zeros
    )


def _find_files(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Return the file of each split: named after it, or the only one in a folder named after it."""
    by_split: dict[str, Path] = {}
    entries, skipped = usable_entries(folder)
    for entry in entries:
        split = _split_of(entry)
        if split is None:
            continue
        files = [entry]
        if entry.is_dir():
            inside, hidden = usable_entries(entry)
            files = [file for file in inside if file.is_file()]
            skipped += hidden
        skipped += [file for file in files if _OTHER_FILES.search(file.name)]
        files = [file for file in files if not _OTHER_FILES.search(file.name)]
        if not files:
            continue
        if split in by_split or len(files) > 1:
            candidates = [by_split[split], *files] if split in by_split else files
            names = [file.relative_to(folder).as_posix() for file in candidates]
            raise DataError(
                f"{folder} must have one file per split. Received for {split!r}: "
                f"{', '.join(names)}. Keep one of them, or join them."
            )
        by_split[split] = files[0]
    notes += skipped_note(skipped, folder)
    return by_split


def _split_of(entry: Path) -> str | None:
    """Return the split that the name of a file or folder says, before its extension if it can."""
    stem = entry.stem if entry.is_file() else entry.name
    words = [*re.split(r"[^a-zA-Z]+", stem), *re.split(r"[^a-zA-Z]+", entry.suffix)]
    splits = (_CONLL_SPLITS.get(word.lower()) or parse_split_name(word) for word in words)
    return next(filter(None, splits), None)


class _Reading:
    """One file on its way to sentences.

    Attributes:
      layout: Its columns.
      notes: Sentences on how it was read.
      dropped: {reason: number of dropped sentences}.
    """

    def __init__(
        self, file: ColumnFile, tags: TagFormat, columns: Mapping[str, Any], layout: Layout | None
    ) -> None:
        self._file, self._tags = file, tags
        found = find_layout(file, tags, columns)
        self.layout = found if layout is None else dataclasses.replace(layout, header=found.header)
        self.notes = [note for note in (self.layout.note(file.num_columns),) if note]
        self.dropped: Counter[str] = Counter()
        if self.layout.header is not None:
            header = self.layout.header
            self.notes.append(
                f"Line {header.line} of {file.path.name} was skipped as the header: "
                f"{header.text.strip()[:80]!r}."
            )

    def sentences(self, drop_faulty: bool) -> list[RawSentence]:
        """Return the sentences, without comments and a header.

        Raises:
          DataError: If there are faulty lines and their sentences are not to be dropped.
        """
        file, layout = self._file, self.layout
        known = {
            row.cells[layout.tag]
            for row in file.rows
            if not row.begins_with_hash and len(row.cells) == file.num_columns
        }
        is_plain = self._tags.scheme == "IO"

        def is_tag(cell: str) -> bool:
            return cell in known if is_plain else self._tags.parse(cell) is not None

        sentences: list[RawSentence] = []
        faulty: list[Row] = []
        num_comments = 0
        for rows in file.sentences:
            words = [row for row in rows if row is not layout.header]
            comments = [row for row in words if is_comment(row, layout, file.num_columns, is_tag)]
            num_comments += sum(len(row.cells) == file.num_columns for row in comments)
            words = [row for row in words if row not in comments]
            joined = [row for row in words if self._is_joined(row)]
            self.dropped["joined or empty words of CoNLL-U"] += len(joined)
            words = [row for row in words if row not in joined]
            faults = [row for row in words if self._is_faulty(row)]
            faulty += faults
            if faults:
                self.dropped["sentences with a line that cannot be read"] += 1
            elif words:
                sentences.append(self._sentence(words))
        if faulty and not drop_faulty:
            raise self._error(faulty)
        if num_comments and not layout.has_index:
            self.notes.append(
                f"{num_comments:,} lines of {file.path.name} begin with '#' and have no tag; they "
                "were skipped as comments."
            )
        return sentences

    def _is_faulty(self, row: Row) -> bool:
        if len(row.cells) != self._file.num_columns or self._file.num_columns < 2:
            return True
        return self._tags.parse(row.cells[self.layout.tag]) is None

    def _is_joined(self, row: Row) -> bool:
        """Return whether a row stands for several words or for none, as in CoNLL-U, untagged."""
        is_range = self.layout.has_index and not row.cells[0].isdecimal()
        return is_range and len(row.cells) == self._file.num_columns and self._is_faulty(row)

    def _sentence(self, rows: Sequence[Row]) -> RawSentence:
        return RawSentence(
            origin=self._file.path.name,
            noun="line",
            words=[row.cells[self.layout.word] for row in rows],
            tags=[self._tags.parse(row.cells[self.layout.tag]) or "" for row in rows],
            numbers=[row.line for row in rows],
        )

    def _error(self, faulty: Sequence[Row]) -> DataError:
        file, tag = self._file, self.layout.tag
        rows = [row for row in file.rows if len(row.cells) == file.num_columns > 1]
        skipped = self.layout.header
        counts: Counter[object] = Counter(
            row.cells[tag] for row in rows if row is not skipped and not row.begins_with_hash
        )
        invalid = [name for name in counts if self._tags.parse(name) is None]
        tags = "O, or such as B-TYPE" if self._tags.scheme == "auto" else "a type without prefix"
        width = f" ({file.num_columns})" if file.num_columns > 1 else ""
        headline = (
            f"{file.path}: {len(faulty):,} lines cannot be read. Each must be a word and its tag, "
            f"{tags}, with as many columns as the other lines{width}, separated by tabs or blanks."
        )
        hint = invalid_tags_hint(counts, self._tags) if invalid else ""
        if invalid:
            names = preview(list(map(repr, sorted(invalid, key=str))))
            headline += f" Column {tag}, read as the tags, also has: {names}."
        if not hint and faulty[0] is file.rows[0] and len(faulty) == 1:
            hint = (
                " If the first line names the columns, name them in data.columns, such as "
                f'{{"text": {faulty[0].cells[0]!r}, "label": {faulty[0].cells[-1]!r}}}.'
            )
        mark = next((mark for mark in ",;|" if mark in faulty[0].text), None)
        if file.num_columns == 1 and mark is not None:
            hint = f" The columns may be separated by {mark!r}: replace it by tabs."
        headline += hint or (
            " Correct these lines, or drop their sentences with --set=data.on_fault=drop."
        )
        shown = [f"line {row.line}: {row.text.strip()[:80]!r}" for row in faulty[:_MAX_SHOWN]]
        return DataError(numbered(headline, shown))


def _require_sentences(sentences: Sequence[RawSentence], file: Path) -> None:
    if not sentences:
        raise DataError(
            f"{file} must hold sentences, with one word and its tag per line. It holds none."
        )
    num_words = len(sentences[0].words)
    if len(sentences) == 1 and num_words >= _UNSEPARATED:
        raise DataError(
            f"{file} must separate sentences by empty lines. It has none between its "
            f"{num_words:,} words."
        )
