"""Sources of unlabelled texts for masked language modelling; labels are ignored."""

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
    """List the texts of a source after cleaning; the texts of a pair become separate examples.

    Args:
      data: The `data` section of the recipe.
      clean: How to clean the texts.
      seed: Seed of synthetic texts.

    Raises:
      DataError: If the source is missing or holds no texts.
    """
    faults: list[str] = []
    if isinstance(data.source, str) and data.source.startswith("texts:"):
        rows = _read_lines_by_split(data.source)
    else:
        rows, faults = read_rows(data, SingleLabelKind(), seed, labelled=False)
    single_texts = {split: _single_texts(split_rows) for split, split_rows in rows.items()}
    kept, dropped = clean_rows(single_texts, clean)
    parts = {split: text_part(texts, _no_labels(len(texts))) for split, texts in kept.items()}
    return Listing((), parts, tuple(faults), {"texts": 1, "dropped": dropped})


def _no_labels(num_texts: int) -> EncodedLabels:
    return EncodedLabels(
        np.zeros(num_texts, np.int64), occurrences=np.zeros((num_texts, 0), np.int64)
    )


def _single_texts(rows: Sequence[TextRow]) -> list[TextRow]:
    """Return one row per text, without labels: duplicates may differ in their label."""
    return [
        TextRow(row.name if len(row.texts) == 1 else f"{row.name}.{number}", (text,), "")
        for row in rows
        for number, text in enumerate(row.texts)
    ]


def _read_lines_by_split(source: str) -> dict[str, list[TextRow]]:
    """Read "texts:PATH", a file or a folder of .txt files with one text per line.

    Files named after splits, such as train.txt and val.txt, are these splits; otherwise all files
    in and below the folder are the training split.
    """
    path = Path(source.partition(":")[2]).expanduser()
    if path.is_file():
        return {"train": _read_lines(path, "train")}
    files = sorted(path.rglob("*.txt")) if path.is_dir() else []
    if not files:
        raise DataError(
            "`data.source` must name a text file with one text per line, or a folder with such "
            f".txt files. Received: {source!r}, which is {path.absolute()}."
        )
    by_split = {parse_split_name(file.stem): file for file in path.glob("*.txt")}
    if "train" in by_split:
        return {split: _read_lines(file, split) for split, file in by_split.items() if split}
    names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    return {"train": [row for file, name in zip(files, names) for row in _read_lines(file, name)]}


def _read_lines(file: Path, name: str) -> list[TextRow]:
    try:
        # "utf-8-sig", because some editors write a byte order mark at the start.
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} must be a text file in UTF-8. It cannot be decoded: {error}. "
            "Convert it to UTF-8."
        ) from error
    # Not `splitlines`, which also splits at form feeds and other separators.
    lines = text.removesuffix("\n").split("\n")
    return [TextRow(f"{name}[{number}]", (line,), "") for number, line in enumerate(lines)]
