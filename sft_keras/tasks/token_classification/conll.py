"""Sentences with a tag for each word, in the columns of the CoNLL shared tasks. No TensorFlow.

Source: Tjong Kim Sang & De Meulder 2003, section 2 (IOB1 in 2003's data); Ratinov & Roth 2009
(the schemes).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import parse_split_name
from sft_keras.data.split_files import find_split_files

OUTSIDE = "O"
_BEGINS = ("B", "S", "U")  # an entity begins with the word, whatever came before
_ENDS = ("E", "S", "L", "U")  # it ends with the word, whatever comes after
_GO_ON = ("I", "E", "L")  # in IOBES and BILOU: an entity has begun before
_PREFIXES = ("B", "I", "E", "S", "L", "U")
_DOCUMENT = "-DOCSTART-"
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Sentence:
    """Words and what each of them belongs to.

    Attributes:
      name: Where it is from, e.g. "train[3]".
      words: As in the file.
      tags: As many, in IOB2: "B-TYPE" for the first word of an entity, "I-TYPE" for the others,
        "O" outside.
    """

    name: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclasses.dataclass
class _Read:
    """A sentence as it stands in a file, with the number of each line."""

    words: list[str] = dataclasses.field(default_factory=list)
    tags: list[str] = dataclasses.field(default_factory=list)
    lines: list[int] = dataclasses.field(default_factory=list)


def read_conll(path: str) -> tuple[dict[str, list[Sentence]], str]:
    """Reads a file, or a folder with a file or a folder for each split.

    Lines hold a word, any columns, and the tag, separated by blanks or tabs; an empty line ends a
    sentence. Tags may be IOB1, IOB2, IOBES or BILOU and become IOB2.

    Returns:
      ({split: sentences}, the scheme they were in); of a file all are "train".

    Raises:
      DataError: If it is not there, or a line does not fit.
    """
    wanted = "a file for training, whose name or folder says train"
    files = find_split_files(f"conll:{path}", _files, wanted)
    raw = {split: list(_sentences(file)) for split, file in files.items()}
    if not raw["train"]:
        raise DataError(
            f"{files['train']} must hold sentences, a word and its tag a line. It has none."
        )
    scheme = scheme_of(each.tags for sentences in raw.values() for each in sentences)
    faults = [
        f"{files[split]}: {fault}"
        for split, sentences in raw.items()
        for each in sentences
        for fault in _misplaced(each, scheme)
    ]
    if faults:
        raise DataError(
            numbered(
                f"{len(faults)} tags do not follow the ones before them, in {scheme} as the others "
                "are. Mend these lines.",
                [*faults[:_SHOWN], *(["and so on"] if len(faults) > _SHOWN else [])],
            )
        )
    found = {
        split: [
            Sentence(f"{split}[{number}]", tuple(each.words), tuple(as_iob2(each.tags)))
            for number, each in enumerate(sentences)
        ]
        for split, sentences in raw.items()
    }
    return found, scheme


def as_iob2(tags: Sequence[str]) -> list[str]:
    """Returns the tags of a sentence, of whichever scheme, in IOB2."""
    found: list[str] = []
    inside: str | None = None  # the type of an entity that may go on
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        if tag == OUTSIDE:
            inside = None
            found.append(OUTSIDE)
            continue
        goes_on = inside == kind and prefix not in _BEGINS
        found.append(f"{'I' if goes_on else 'B'}-{kind}")
        inside = None if prefix in _ENDS else kind
    return found


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """Returns the scheme of some sentences' tags: "IOB1", "IOB2", "IOBES" or "BILOU".

    Where single tags speak for one and others for another, it is that of the most.
    """
    prefixes: set[str] = set()
    begins: Counter[str] = Counter()
    for tags in sentences:
        for before, tag in zip((OUTSIDE, *tags), tags):
            prefix, _, kind = tag.partition("-")
            prefixes.add(prefix)
            if kind and before.partition("-")[2] != kind:
                begins[prefix] += 1
    if prefixes & {"E", "S"}:
        return "IOBES"
    if prefixes & {"L", "U"}:
        return "BILOU"
    return "IOB1" if begins["I"] > begins["B"] else "IOB2"


def _misplaced(sentence: _Read, scheme: str) -> Iterator[str]:
    """Yields what cannot stand where it does, with the line's number."""
    tags = [*sentence.tags, OUTSIDE]
    before = OUTSIDE
    for number, tag in enumerate(tags):
        same = before.partition("-")[2] == tag.partition("-")[2] != ""
        last, prefix = before[0], tag[0]
        if scheme == "IOB2":
            is_wrong = prefix == "I" and not same
        elif scheme == "IOB1":
            is_wrong = prefix == "B" and not same
        else:
            goes_on = prefix in _GO_ON
            is_open = last in ("B", "I")
            is_wrong = goes_on != is_open or (goes_on and not same)
        if is_wrong and number < len(sentence.tags):
            yield f"line {sentence.lines[number]}: {tag} after {before}"
        elif is_wrong:
            yield f"line {sentence.lines[-1]}: {before} at the end of a sentence"
        before = tag


def _files(folder: Path) -> dict[str, Path]:
    """Returns the file whose name says the split, or that lies in a folder whose name does."""
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        words = re.split(r"[^a-zA-Z]+", entry.stem if entry.is_file() else entry.name)
        split = next(filter(None, map(parse_split_name, words)), None)
        inner = [entry] if entry.is_file() else sorted(filter(Path.is_file, entry.iterdir()))
        if split is None or not inner:
            continue
        if split in found or len(inner) > 1:
            several = [str(each.relative_to(folder)) for each in (*inner, found.get(split)) if each]
            raise DataError(
                f"{folder} must have one file for each split. For {split!r} there are "
                f"{', '.join(several)}."
            )
        found[split] = inner[0]
    return found


def _sentences(file: Path) -> Iterator[_Read]:
    columns: int | None = None
    read = _Read()
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} must be UTF-8. It cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        parts = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or parts[0] == _DOCUMENT:
            if read.words:
                yield read
                read = _Read()
            continue
        if line.startswith("# ") and len(parts) != columns:
            continue  # a comment; a word "#" has its tag beside it
        columns = len(parts) if columns is None else columns
        word, tag = parts[0].strip(), parts[-1].strip()
        if len(parts) != columns or columns < 2 or not word or not is_tag(tag):
            raise DataError(
                f"{file}: line {number} must be a word and its tag, O or B-TYPE or the like, with "
                f"as many columns as the others{f' ({columns})' if columns else ''}. "
                f"Received: {line.strip()[:80]!r}."
            )
        read.words.append(word)
        read.tags.append(tag)
        read.lines.append(number)
    if read.words:
        yield read


def is_tag(text: str) -> bool:
    """Whether a text is a tag of one of the schemes."""
    prefix, dash, kind = text.partition("-")
    return text == OUTSIDE or (prefix in _PREFIXES and bool(dash) and bool(kind))
