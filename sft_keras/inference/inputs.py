"""Inputs of an exported model from paths, texts and tables. Does not import TensorFlow."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sft_keras.core.errors import DataError
from sft_keras.data.listing import preview
from sft_keras.data.tables import BadRow, read_table
from sft_keras.inference.exported_model import Input
from sft_keras.recipe.data import Data
from sft_keras.tasks.predictions import Prediction

_LOG = logging.getLogger(__name__)

_TABLES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
_COLUMNS = {
    "texts": ("text",),
    "text_pairs": ("text_pair",),
    "questions": ("question",),
    "contexts": ("context", "passage"),
}
"""{argument of a model: names of a column that holds it}."""


def read_inputs(
    inputs: str | Path | Iterable[str | Path],
    arguments: Sequence[str],
    columns: Sequence[str] = (),
    trained: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Input | Prediction]:
    """Yield an `Input`, or a `Prediction` with an error, for each input of a model, in order.

    Files that are skipped, and texts that may be meant as files, are logged as warnings.

    Args:
      inputs: For a model of images, files and folders; for a model of texts, texts and tables, the
        latter as `Path`. A single one need not be in a list; it may be the path of a table as text.
      arguments: The names of the model's arguments.
      columns: The column of a table for each argument; empty to find them by their names.
      trained: {argument: column of the table that the model was trained on}.

    Raises:
      DataError: If a table cannot be read or its columns are not found.
    """
    # A text is iterable too: its letters would be paths, and "/" the whole disk.
    several = [table_or_text(inputs)] if isinstance(inputs, str | os.PathLike) else inputs
    if "image_bytes" in arguments:
        if columns:
            raise DataError("Columns are for tables of texts. This model reads image files.")
        return _read_files(several, arguments[0])
    return _read_texts(several, arguments, columns, trained)


def table_or_text(given: str | Path) -> str | Path:
    """Return a `Path` if a text is the path of an existing table, else the text itself."""
    file = _existing_file(given)
    return file if file is not None and file.suffix.lower() in _TABLES else given


def _read_texts(
    inputs: Iterable[str | Path],
    arguments: Sequence[str],
    columns: Sequence[str],
    trained: Mapping[str, str],
) -> Iterator[Input | Prediction]:
    usual = {
        argument: [*([trained[argument]] if argument in trained else []), *_COLUMNS[argument]]
        for argument in arguments
    }
    kinds = ", ".join(_TABLES)
    for given in inputs:
        if isinstance(given, os.PathLike):
            kind = _TABLES.get(Path(given).suffix.lower())
            if kind is None:
                yield Prediction(str(given), error=f"must be a text, or a table ({kinds})")
            else:
                yield from _read_table(Path(given), kind, columns, usual)
            continue
        if _existing_file(given) is not None:
            _LOG.warning(
                "%r is a file, but was read as a text. Texts are read from tables (%s; in Python, "
                "as a `Path`), or line by line from standard input: - < FILE.",
                given,
                kinds,
            )
        parts = given.split("\t") if len(arguments) == 2 else [given]
        if len(parts) == len(arguments):
            yield Input(given, dict(zip(arguments, parts)))
        else:
            yield Prediction(given, error="must be two texts with a tab between them")


def _existing_file(given: str | Path) -> Path | None:
    try:
        path = Path(given).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, or not one at all
        return None


def _read_table(
    file: Path, kind: str, columns: Sequence[str], usual: Mapping[str, Sequence[str]]
) -> Iterator[Input | Prediction]:
    wanted = [*columns, *itertools.chain.from_iterable(usual.values())]
    table = read_table(kind, file, Data(source=f"{kind}:{file}"), wanted)
    names = _find_columns(file, table.columns, columns, usual)
    positions = [table.columns.index(name) for name in names]
    for number, row in enumerate(table.rows):
        place = f"{table.place(number)} of {file}"
        if isinstance(row, BadRow):
            yield Prediction(place, error=f"is one of the rows {row.reason}: {row.shown}")
            continue
        values = [_value(row, position) for position in positions]
        name = "\t".join(values)
        if all(value.strip() for value in values):
            yield Input(name, dict(zip(usual, values)))
        else:
            yield Prediction(place, error="has no text")


def _value(row: Sequence[Any], position: int) -> str:
    """Return a value as text; "" for one that is missing, as at the end of a short row."""
    value = row[position] if position < len(row) else None
    return "" if value is None else str(value)


def _find_columns(
    file: Path,
    existing: Sequence[str],
    columns: Sequence[str],
    usual: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return the column of each argument: as requested, by name, or the only one.

    Args:
      file: The table, for messages.
      existing: Its columns.
      columns: The requested columns, or none.
      usual: {argument: names that its column may have}.
    """
    by_name = [next((name for name in names if name in existing), None) for names in usual.values()]
    if columns:
        found = list(columns)
    elif len(existing) == len(usual):
        others = [name for name in existing if name not in by_name]
        found = [name or others.pop(0) for name in by_name]
    else:
        found = [name for name in by_name if name is not None]
    missing = [name for name in found if name not in existing]
    if len(found) != len(usual) or missing:
        nouns = [_COLUMNS[argument][0].upper() for argument in usual]
        flags = " ".join(f"--column={noun}" for noun in (nouns if len(nouns) > 1 else ["NAME"]))
        raise DataError(
            f"The texts of {file} must be in named columns: pass {flags} on the command line, or "
            f"`columns` in Python. Received the columns {preview(list(map(repr, existing)))}"
            f"{f', and no {preview(list(map(repr, missing)))}' if missing else ''}."
        )
    return found


def _read_files(inputs: Iterable[str | Path], argument: str) -> Iterator[Input | Prediction]:
    for path in _files(inputs):
        try:
            yield Input(str(path), {argument: path.read_bytes()})
        except OSError as error:
            yield Prediction(str(path), error=f"cannot be read: {error.strerror}")


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield files, and in place of a folder the images in and below it."""
    for path in (Path(path).expanduser() for path in paths):
        if not path.is_dir():
            yield path
            continue
        images, skipped = _images(path)
        if skipped:
            _LOG.warning(
                "%s: skipped %d files that are hidden or have no image extension: %s.",
                path,
                len(skipped),
                preview([file.relative_to(path).as_posix() for file in skipped], limit=5),
            )
        yield from images


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images in and below a folder, as training reads them, and the other files."""
    from sft_keras.vision.sources.folder import EXTENSIONS

    images: list[Path] = []
    skipped: list[Path] = []
    for base, _, names in os.walk(folder):
        for file in (Path(base, name) for name in names):
            parts = file.relative_to(folder).parts
            is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
            is_image = not is_hidden and file.suffix.lower() in EXTENSIONS
            (images if is_image else skipped).append(file)
    return sorted(images), sorted(skipped)
