"""Reader of questions in JSON: SQuAD 1.1 and 2.0, and rows of Hugging Face. No TensorFlow.

Sources: Rajpurkar et al. 2016, arXiv:1606.05250 (1.1), and 2018, arXiv:1806.03822 (2.0).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.encodings import read_text
from sft_keras.data.listing import preview
from sft_keras.data.split_files import (
    find_split_files,
    parse_json,
    skipped_note,
    usable_entries,
)
from sft_keras.data.split_names import find_split_name
from sft_keras.tasks.question_answering.entries import (
    EntryError,
    entry_id,
    has_converted_start,
    is_row,
    parse_entry,
)
from sft_keras.tasks.question_answering.examples import Question, unique_questions

_SUFFIXES = (".json", ".jsonl", ".ndjson")
_MAX_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class ReadQuestions:
    """The questions of a source, whose answers are not verified yet; see `align_answers`.

    Attributes:
      by_split: The questions of each split.
      notes: Sentences on how the source was read, see `DataInfo.facts`.
      dropped: {what: how many were dropped}.
    """

    by_split: Mapping[str, Sequence[Question]]
    notes: Sequence[str] = ()
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_squad(path: str, drop_faulty: bool = False, encoding: str | None = None) -> ReadQuestions:
    """Read a file, or a folder with one file per split such as train-v2.0.json.

    Args:
      path: Path of the file, whose questions all are the "train" split, or of the folder.
      drop_faulty: Whether to drop questions with a faulty field instead of raising.
      encoding: As in `Data.encoding`.

    Raises:
      DataError: If the path does not exist, or a file or a question has another format.
    """
    notes: list[str] = []
    files = find_split_files(
        f"squad:{path}",
        lambda folder: _find_files(folder, notes),
        "a file for training, called train*.json",
    )
    dropped: Counter[str] = Counter()
    by_split = {}
    for split, file in files.items():
        reading = _Reading(file, split, encoding)
        by_split[split] = reading.questions(drop_faulty)
        notes += reading.notes
        dropped.update(reading.dropped)
    return ReadQuestions(by_split, notes, dict(dropped))


def _find_files(folder: Path, notes: list[str]) -> dict[str, Path]:
    entries, skipped = usable_entries(folder)
    by_split: dict[str, list[Path]] = {}
    for file in entries:
        name = find_split_name(file.stem)
        if name is not None and file.suffix.lower() in _SUFFIXES:
            by_split.setdefault(name.split, []).append(file)
    faults = [
        f"{split}: {', '.join(file.name for file in files)}"
        for split, files in by_split.items()
        if len(files) > 1
    ]
    if faults:
        raise DataError(
            numbered(
                f"{folder} must have one file per split. Keep one of these, or join them.", faults
            )
        )
    notes += skipped_note(skipped, folder)
    return {split: files[0] for split, files in by_split.items()}


class _Reading:
    """One file on its way to questions.

    Attributes:
      notes: Sentences on how it was read.
      dropped: {reason: number of dropped questions}.
    """

    def __init__(self, file: Path, split: str, encoding: str | None) -> None:
        self._file, self._split, self._encoding = file, split, encoding
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()

    def questions(self, drop_faulty: bool) -> list[Question]:
        """Return the questions of the file, each with an id of its own.

        Raises:
          DataError: If questions are faulty and not to be dropped.
        """
        questions: list[Question] = []
        faults: list[str] = []
        num_converted = num_without_id = num_contradictory = 0
        for entry, context, article in self._entries():
            name = entry_id(entry)
            num_without_id += name is None
            name = name or f"{self._split}[{len(questions) + len(faults)}]"
            try:
                question = parse_entry(entry, name, context, article)
            except EntryError as error:
                faults.append(f"question {name!r}: {error}")
                continue
            questions.append(question)
            num_converted += has_converted_start(entry)
            num_contradictory += entry.get("is_impossible") is False and not question.answers
        if faults and not drop_faulty:
            raise self._error(faults)
        self._note(num_without_id, "questions have no id and are named by their position")
        self._note(
            num_converted,
            "questions have an answer_start that is text or a decimal, read as a number",
        )
        self._note(
            num_contradictory,
            "questions have no answers, but is_impossible is false; read as unanswerable",
        )
        if faults:
            self.dropped["questions that cannot be read"] = len(faults)
        unique, num_repeated, renamed = unique_questions(questions)
        if num_repeated:
            self.dropped["questions that repeat another one"] = num_repeated
        self._note(
            len(renamed),
            f"questions repeat the id of another one and were renamed: {preview(renamed, limit=2)}",
        )
        return unique

    def _note(self, count: int, what: str) -> None:
        if count:
            self.notes.append(f"{count:,} {what} ({self._file.name}).")

    def _error(self, faults: Sequence[str]) -> DataError:
        return DataError(
            numbered(
                f"{self._file}: {len(faults):,} questions cannot be read. Correct them, or drop "
                "them with --set=data.on_fault=drop.",
                [*faults[:_MAX_SHOWN], *(["and so on"] if len(faults) > _MAX_SHOWN else [])],
            )
        )

    def _entries(self) -> Iterator[tuple[Mapping[str, Any], Any, str]]:
        """Yield (question with its answers, passage, article) for each question."""
        for number, item in enumerate(_items(self._file, self._encoding)):
            if is_row(item):
                yield item, item["context"], str(item.get("title") or "")
                continue
            if not isinstance(item, Mapping) or not {"paragraphs", "qas"} & item.keys():
                raise self._format_error(f"entry {number}", item)
            paragraphs = item.get("paragraphs", [item])
            article = str(item.get("title") or ("" if "qas" in item else f"article {number}"))
            for index, paragraph in enumerate(_list(paragraphs)):
                place = f"paragraph {index} of entry {number}"
                if not isinstance(paragraph, Mapping) or "qas" not in paragraph:
                    raise self._format_error(place, paragraph)
                for entry in _list(paragraph["qas"]):
                    if not isinstance(entry, Mapping):
                        raise self._format_error(f"a question of {place}", entry)
                    yield entry, paragraph.get("context"), article

    def _format_error(self, place: str, value: Any) -> DataError:
        received = (
            f"an object with the fields {', '.join(map(str, value)) or 'none'}"
            if isinstance(value, Mapping)
            else repr(value)
        )
        return DataError(
            f"{self._file} must be in SQuAD's format, with data, paragraphs, context, qas, id, "
            "question, answers, text and answer_start; or have rows with question, context and "
            f"answers. {place.capitalize()} is neither. Received: {received[:200]}."
        )


def _items(file: Path, encoding: str | None) -> list[Any]:
    """Return the articles, paragraphs or rows of a file: one JSON value, or one per line."""
    text = read_text(file, encoding)
    try:
        value = _parse(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} must be a JSON file. It cannot be parsed: {error}.") from error
    if isinstance(value, Mapping):
        for name in ("data", "rows"):
            if isinstance(value.get(name), list):
                rows = value[name]
                return [
                    row["row"] if isinstance(row, Mapping) and "row" in row else row for row in rows
                ]
        if is_row(value) and all(isinstance(column, list) for column in value.values()):
            return [dict(zip(value, row)) for row in zip(*value.values())]
    return _list(value)


def _parse(text: str) -> Any:
    """Return the JSON value of a text, or the list of those of its lines."""
    try:
        return parse_json(text)
    except ValueError:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2 or not lines[0].lstrip().startswith("{"):
            raise
        try:
            parse_json(lines[0])
        except ValueError:
            is_by_line = False
        else:
            is_by_line = True
        if not is_by_line:
            raise
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values.append(parse_json(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return values


def _is_numbered(row: Any) -> bool:
    """Return whether a row is {"row_idx": number, "row": row}, as in Hugging Face's data viewer."""
    return isinstance(row, Mapping) and "row" in row


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
