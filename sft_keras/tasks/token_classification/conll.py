"""Reader of tagged sentences in the columns of the CoNLL shared tasks. Does not import TensorFlow.

Source: Tjong Kim Sang & De Meulder 2003, section 2.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import parse_split_name
from sft_keras.data.split_files import find_split_files
from sft_keras.tasks.token_classification.tag_schemes import (
    OUTSIDE,
    detect_scheme,
    is_valid_tag,
    is_valid_transition,
    to_iob2,
)

_DOCUMENT_START = "-DOCSTART-"
_MAX_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Sentence:
    """The words of a sentence with their tags.

    Attributes:
      name: Where it is from, e.g. "train[3]".
      words: The words as in the source.
      tags: One tag per word, in IOB2.
    """

    name: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclasses.dataclass
class _RawSentence:
    """A sentence as it is in a file, with the line number of each word."""

    words: list[str] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)
    line_numbers: list[int] = dataclasses.field(default_factory=list)


def read_conll(path: str) -> tuple[dict[str, list[Sentence]], str]:
    """Read a file, or a folder with one file or one folder per split.

    Each line is a word, any other columns, and the tag, separated by blanks or tabs; an empty line
    ends a sentence. Tags may be in IOB1, IOB2, IOBES or BILOU and are converted to IOB2.

    Args:
      path: Path of the file, whose sentences all are the "train" split, or of the folder.

    Returns:
      ({split: sentences}, the scheme of the tags in the files).

    Raises:
      DataError: If the path does not exist, or if a line or a tag is not valid.
    """
    expected = "a file for training, whose name or folder says train"
    files = find_split_files(f"conll:{path}", _find_files, expected)
    raw = {split: list(_read_sentences(file)) for split, file in files.items()}
    if not raw["train"]:
        raise DataError(
            f"{files['train']} must hold sentences, with one word and its tag per line. It holds "
            "none."
        )
    scheme = detect_scheme(sentence.tags for sentences in raw.values() for sentence in sentences)
    _require_valid_transitions(raw, files, scheme)
    sentences_by_split = {
        split: [
            Sentence(f"{split}[{index}]", tuple(sentence.words), tuple(to_iob2(sentence.tags)))
            for index, sentence in enumerate(sentences)
        ]
        for split, sentences in raw.items()
    }
    return sentences_by_split, scheme


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the file of each split: named after it, or the only one in a folder named after it."""
    by_split: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        words = re.split(r"[^a-zA-Z]+", entry.stem if entry.is_file() else entry.name)
        split = next(filter(None, map(parse_split_name, words)), None)
        files = [entry] if entry.is_file() else sorted(filter(Path.is_file, entry.iterdir()))
        if split is None or not files:
            continue
        if split in by_split or len(files) > 1:
            candidates = [*files, by_split[split]] if split in by_split else files
            names = [str(file.relative_to(folder)) for file in candidates]
            raise DataError(
                f"{folder} must have one file per split. Received for {split!r}: "
                f"{', '.join(names)}."
            )
        by_split[split] = files[0]
    return by_split


def _read_sentences(file: Path) -> Iterator[_RawSentence]:
    num_columns: int | None = None
    sentence = _RawSentence()
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} must be in UTF-8. It cannot be decoded: {error}.") from error
    for line_number, line in enumerate(lines, 1):
        columns = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or columns[0] == _DOCUMENT_START:
            if sentence.words:
                yield sentence
                sentence = _RawSentence()
            continue
        if line.startswith("# ") and len(columns) != num_columns:
            continue  # a comment; the word "#" has as many columns as other words
        num_columns = len(columns) if num_columns is None else num_columns
        word, tag = columns[0].strip(), columns[-1].strip()
        if len(columns) != num_columns or num_columns < 2 or not word or not is_valid_tag(tag):
            number_expected = f" ({num_columns})" if num_columns else ""
            raise DataError(
                f"{file}: line {line_number} must be a word and its tag, O or such as B-TYPE, with "
                f"as many columns as the other lines{number_expected}. "
                f"Received: {line.strip()[:80]!r}."
            )
        sentence.words.append(word)
        sentence.tags.append(tag)
        sentence.line_numbers.append(line_number)
    if sentence.words:
        yield sentence


def _require_valid_transitions(
    raw: dict[str, list[_RawSentence]], files: dict[str, Path], scheme: str
) -> None:
    faults = [
        f"{files[split]}: {fault}"
        for split, sentences in raw.items()
        for sentence in sentences
        for fault in _transition_faults(sentence, scheme)
    ]
    if faults:
        raise DataError(
            numbered(
                f"{len(faults)} tags may not follow the tag before them in {scheme}, the scheme of "
                "the other tags. Correct these lines.",
                [*faults[:_MAX_SHOWN], *(["and so on"] if len(faults) > _MAX_SHOWN else [])],
            )
        )


def _transition_faults(sentence: _RawSentence, scheme: str) -> Iterator[str]:
    """Yield one message with the line number per tag that may not follow the previous one."""
    previous = OUTSIDE
    for tag, line_number in zip(sentence.tags, sentence.line_numbers):
        if not is_valid_transition(previous, tag, scheme):
            yield f"line {line_number}: {tag} after {previous}"
        previous = tag
    if not is_valid_transition(previous, OUTSIDE, scheme):
        yield f"line {sentence.line_numbers[-1]}: {previous} at the end of a sentence"
