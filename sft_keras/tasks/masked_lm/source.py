"""Sources of unlabelled texts for masked language modelling; labels are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.encodings import read_text, universal_newlines
from sft_keras.data.example_faults import ExampleFaults
from sft_keras.data.listing import Listing, parse_split_name
from sft_keras.recipe.data import Data
from sft_keras.text.clean_config import Clean
from sft_keras.text.cleaning import TextRow, clean_rows
from sft_keras.text.labels import EncodedLabels, SingleLabelKind
from sft_keras.text.sources.texts import read_rows, text_facts, text_part


def list_unlabelled_texts(data: Data, clean: Clean, seed: int) -> Listing:
    """List the texts of a source after cleaning; the texts of a pair become separate examples.

    Args:
      data: The `data` section of the recipe.
      clean: How to clean the texts.
      seed: Seed of synthetic texts.

    Raises:
      DataError: If the source is missing or holds no texts.
    """
    faults = ExampleFaults(data)
    if isinstance(data.source, str) and data.source.startswith("texts:"):
        rows = _read_lines_by_split(data.source, data.encoding)
    else:
        rows = read_rows(data, SingleLabelKind(), seed, faults, labelled=False)
    single_texts = {split: _single_texts(split_rows) for split, split_rows in rows.items()}
    kept, dropped = clean_rows(single_texts, clean)
    parts = {split: text_part(texts, _no_labels(len(texts))) for split, texts in kept.items()}
    faults.ids.update(row.name for texts in single_texts.values() for row in texts)
    facts = text_facts(faults, dropped, texts=1)
    return Listing((), parts, tuple(faults.sentences()), facts, frozenset(faults.ids))


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


def _read_lines_by_split(source: str, encoding: str | None) -> dict[str, list[TextRow]]:
    """Read "texts:PATH", a file or a folder of .txt files with one text per line.

    Files named after splits, such as train.txt and val.txt, are these splits; otherwise all files
    in and below the folder are the training split.
    """
    path = Path(source.partition(":")[2]).expanduser()
    if path.is_file():
        return {"train": _read_lines(path, "train", encoding)}
    files = sorted(path.rglob("*.txt")) if path.is_dir() else []
    if not files:
        raise DataError(
            "`data.source` must name a text file with one text per line, or a folder with such "
            f".txt files. Received: {source!r}, which is {path.absolute()}."
        )
    by_split: dict[str, Path] = {}
    for file in sorted(path.glob("*.txt")):
        split = parse_split_name(file.stem)
        if split in by_split:
            raise DataError(
                f"{path} must have one file per split. Received for {split}: "
                f"{by_split[split].name}, {file.name}. Join them, or move one elsewhere."
            )
        by_split |= {split: file} if split is not None else {}
    if "train" in by_split:
        return {split: _read_lines(file, split, encoding) for split, file in by_split.items()}
    names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    train = [row for file, name in zip(files, names) for row in _read_lines(file, name, encoding)]
    return {"train": train}


def _read_lines(file: Path, name: str, encoding: str | None) -> list[TextRow]:
    text = universal_newlines(read_text(file, encoding))
    # Not `splitlines`, which also splits at form feeds and other separators.
    lines = text.removesuffix("\n").split("\n")
    return [TextRow(f"{name}[{number}]", (line,), "") for number, line in enumerate(lines)]
