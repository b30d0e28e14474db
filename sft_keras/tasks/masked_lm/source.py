"""Texts that are only read: no labels are needed, and those that are there say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.listing import Listing, parse_split_name
from sft_keras.recipe.data import Data
from sft_keras.text.clean_config import Clean
from sft_keras.text.cleaning import TextRow, clean_rows
from sft_keras.text.labels import EncodedLabels, SingleLabelKind
from sft_keras.text.sources.texts import read_rows, text_part


def list_unlabelled_texts(data: Data, clean: Clean, seed: int) -> Listing:
    """Lists the texts of a source, cleaned; of pairs each text by itself.

    Raises:
      DataError: If the source is not there or holds no texts.
    """
    faults: list[str] = []
    if isinstance(data.source, str) and data.source.startswith("texts:"):
        rows = _lines_by_split(data.source)
    else:
        rows, faults = read_rows(data, SingleLabelKind(), seed, labelled=False)
    kept, dropped = clean_rows({split: _single(each) for split, each in rows.items()}, clean)
    parts = {split: text_part(each, _no_labels(len(each))) for split, each in kept.items()}
    return Listing((), parts, tuple(faults), {"texts": 1, "dropped": dropped})


def _no_labels(texts: int) -> EncodedLabels:
    return EncodedLabels(np.zeros(texts, np.int64), occurrences=np.zeros((texts, 0), np.int64))


def _single(rows: Sequence[TextRow]) -> list[TextRow]:
    """Returns a row for each text, without its label, by which alike ones would seem different."""
    return [
        TextRow(row.name if len(row.texts) == 1 else f"{row.name}.{number}", (text,), "")
        for row in rows
        for number, text in enumerate(row.texts)
    ]


def _lines_by_split(source: str) -> dict[str, list[TextRow]]:
    """Reads "texts:PATH": a file, or a folder of .txt files; each line is a text."""
    place = Path(source.partition(":")[2]).expanduser()
    if place.is_file():
        return {"train": _lines(place, "train")}
    files = sorted(place.rglob("*.txt")) if place.is_dir() else []
    if not files:
        raise DataError(
            "`data.source` must name a file with a text a line, or a folder with .txt files of "
            f"such lines. Received: {source!r}, which is {place.absolute()}."
        )
    by_split = {parse_split_name(file.stem): file for file in place.glob("*.txt")}
    if "train" in by_split:
        return {split: _lines(file, split) for split, file in by_split.items() if split}
    names = [str(file.relative_to(place).with_suffix("")) for file in files]
    return {"train": [row for file, name in zip(files, names) for row in _lines(file, name)]}


def _lines(file: Path, name: str) -> list[TextRow]:
    try:
        # "utf-8-sig", because some editors put a byte order mark at the start.
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} must be a text file in UTF-8. It cannot be read: {error}. Save it as such."
        ) from error
    # Not `splitlines`, which also splits at form feeds and the like.
    lines = text.removesuffix("\n").split("\n")
    return [TextRow(f"{name}[{number}]", (line,), "") for number, line in enumerate(lines)]
