"""The sections of a recipe that say what it starts from. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from sft_keras.core.errors import DataError
from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.recipe.section import Checks, did_you_mean, section

_TABLES = ("csv", "tsv", "jsonl", "parquet")
_TEXT_FILES = ("texts", "conll", "squad")
_COLUMNS = ("text", "text_pair", "label", "split")


@section
class Data:
    """Where the labelled examples come from and how they are batched.

    Attributes:
      source: Of images: "tfds:NAME[/CONFIG][:VERSION]", "folder:PATH" (class folders, or
        train/val/test folders of class folders), "csv:PATH" (columns path, label and, if wanted,
        split), "digits" (scikit-learn's handwritten digits) or an `Arrays`. Of texts: "csv:PATH",
        "tsv:PATH", "jsonl:PATH" or "parquet:PATH" (a file, or a folder with train, val and test
        files; columns text, label and, if wanted, text_pair and split) or a `Texts`. Of texts that
        are only read: these, without a need of labels, or "texts:PATH" (a file with a text a line,
        or a folder of such .txt files). Of tagged words: "conll:PATH" (a file, or a folder with one
        for each split; the word first and the tag last in each line) or a `TaggedWords`. Of
        questions on passages: "squad:PATH" (a file in the JSON of SQuAD, or a folder with
        train*.json and dev*.json) or a `Questions`. Of all: "synthetic:NUMBER" (noise, for trying a
        recipe; of classes, types or passages).
      columns: Which column of a table of texts holds what, where it is called otherwise, e.g.
        {"text": "review", "label": "stars"}.
      outside: Whether images may lie outside of the folder or the table's folder: by absolute paths
        or `..` in a table, or by symbolic links.
      batch_size: Examples a step.
      validation: Share of the training examples held out for validation, where the source has no
        such split. Stratified by class, of questions by whole articles or passages, and seeded.
      test: The same for the test split.
      exclude: A file with the ids of examples to leave out, one a line, as `python -m
        sft_keras.check` writes it; lines that begin with # say nothing. Splits that are made here
        are made before, so that all others stay where they are.
      data_dir: Where tensorflow-datasets keeps its data; None for its own default.
      memory_share: Share of the free memory that decoded examples may take, and again what the
        frozen blocks give for them. Beyond it they are decoded, or computed, in every epoch.
    """

    source: str | InMemorySource
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    outside: bool = False
    batch_size: int = 32
    validation: float = 0.1
    test: float = 0.1
    exclude: str | None = None
    data_dir: str | None = None
    memory_share: float = 0.25

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks("data", self)
        checks.at_least("batch_size", 1)
        checks.between("memory_share", 0.0, 1.0)
        for name in ("validation", "test"):
            checks.require(name, 0.0 < getattr(self, name) < 1.0, "a share above 0 and below 1")
        if self.validation + self.test >= 1.0:
            checks.found.append(
                "`data.validation` and `data.test` must leave examples to train on. "
                f"Received: {self.validation} + {self.test}."
            )
        if isinstance(self.source, str):
            kind = self.source.split(":", 1)[0]
            known = ("tfds", "folder", *_TABLES, *_TEXT_FILES, "digits", "synthetic")
            if kind not in known:
                checks.found.append(
                    f"`data.source` must start with one of {', '.join(known)}. "
                    f"Received: {self.source!r}.{did_you_mean(kind, known)}"
                )
            elif kind != "digits" and not self.source.partition(":")[2]:
                checks.found.append(
                    f"`data.source` needs something after {kind!r}, as in '{kind}:NAME'. "
                    f"Received: {self.source!r}."
                )
        for name in self.columns:
            if name not in _COLUMNS:
                checks.found.append(
                    f"`data.columns` must say where {', '.join(_COLUMNS)} are. "
                    f"Received: {name!r}.{did_you_mean(name, _COLUMNS)}"
                )
        return checks.found

    def require_path(self) -> None:
        """Raises a `DataError` if the source or `exclude` is a path that is not there."""
        if self.exclude is not None and not Path(self.exclude).expanduser().is_file():
            raise DataError(
                f"`data.exclude` must name a file that exists. Received: {self.exclude!r}."
            )
        if not isinstance(self.source, str):
            return
        kind, _, name = self.source.partition(":")
        thing = "folder" if kind == "folder" else "file"
        if kind in ("folder", *_TABLES, *_TEXT_FILES) and not Path(name).expanduser().exists():
            raise DataError(
                f"`data.source` must name a {thing} that exists. Received: {self.source!r}, "
                f"which is {Path(name).expanduser().absolute()}. "
                f"Say where it is with --set=data.source={kind}:PATH."
            )
