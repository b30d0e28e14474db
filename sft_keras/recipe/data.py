"""The recipe section of the labelled examples. Standard library only."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sft_keras.core.errors import DataError
from sft_keras.recipe.in_memory import InMemorySource
from sft_keras.recipe.section import Checks, did_you_mean, section

_TABLES = ("csv", "tsv", "jsonl", "parquet")
_TEXT_FILES = ("texts", "conll", "squad")
_NEED_A_NAME = ("tfds", "folder", *_TABLES, *_TEXT_FILES, "synthetic")
_DELIMITED = ("csv", "tsv")
_ENCODED = ("csv", "tsv", "jsonl", "folder", *_TEXT_FILES)
_COLUMNS = ("text", "text_pair", "image", "label", "split")

Column = str | int | tuple[str | int, ...]
"""A column by name, or by position from 0; or several columns of 0 and 1, one per label."""
TABS = ("tab", "\\t")
"""A tab as written on a command line, where it is hard to type."""


@section
class Data:
    """Where the labelled examples come from and how they are batched.

    Attributes:
      source: "KIND:LOCATION" or in-memory data. The task decides which kinds it accepts:

        - Images: "tfds:NAME[/CONFIG][:VERSION]", "folder:PATH" (class folders, or train/val/test
          folders of class folders), "csv:PATH" (a file, or a folder with one per split; columns
          path, label and optionally split), "digits" (scikit-learn's handwritten digits) or an
          `Arrays`.
        - Labelled texts: "csv:PATH", "tsv:PATH", "jsonl:PATH" or "parquet:PATH" (a file, or a
          folder with train, val and test files; columns text, label and optionally text_pair and
          split) or a `Texts`.
        - Unlabelled texts: the same without labels, or "texts:PATH" (a file with one text per
          line, or a folder of such .txt files).
        - Tagged words: "conll:PATH" (a file, or a folder with one file per split; each line
          starts with the word and ends with its tag) or a `TaggedWords`.
        - Questions about passages: "squad:PATH" (a file in SQuAD's JSON format, or a folder with
          train*.json and dev*.json) or a `Questions`.
        - All tasks: "synthetic:NUMBER" (random examples of NUMBER classes, entity types or
          passages, for trying out a recipe).

      columns: {field: column} for a table whose columns have other names, e.g.
        {"text": "review", "label": "stars"}. A column may also be a position from 0, for tables
        without a header. Several labels per text may be columns of 0 and 1:
        {"label": ("toxic", "insult")}.
      delimiter: What separates the columns of a "csv" or "tsv" table: one character, or "tab".
        None to find it in the file.
      encoding: Encoding of text files, e.g. "cp1252"; None for UTF-8, or for what a byte order mark
        at the start of a file says.
      on_fault: What happens to examples that cannot be read: "error" stops before training and
        lists them, "drop" leaves them out and counts them in the report.
      rare_classes: What happens to classes with too few examples for every split that is created:
        "error" stops and lists them, "train" puts all their examples into the training split,
        "drop" leaves them out.
      outside: Whether images may lie outside the source's folder, reached through absolute paths
        or `..` in a table, or through symbolic links.
      batch_size: Training examples per step.
      validation: Share of the training examples held out for validation if the source has no
        validation split. The split is seeded and stratified by class; questions are split by
        whole articles or passages.
      test: The same for the test split.
      exclude: A file with the ids of examples to drop, one per line, or a folder of such files,
        as written by `python -m sft_keras.check`; lines that begin with # are comments. Examples
        are dropped after splitting, so all others stay in their splits.
      data_dir: Folder of tensorflow-datasets; None for its default.
      memory_share: Share of the free memory that decoded examples may occupy, and the same again
        for their cached features. What does not fit is decoded or computed again in every epoch.

    Example:
      >>> from sft_keras import Data
      >>> Data(source="csv:reviews.csv", columns={"text": "review"}, batch_size=64).validation
      0.1
    """

    source: str | InMemorySource
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    on_fault: Literal["error", "drop"] = "error"
    rare_classes: Literal["error", "train", "drop"] = "error"
    outside: bool = False
    batch_size: int = 32
    validation: float = 0.1
    test: float = 0.1
    exclude: str | None = None
    data_dir: str | None = None
    memory_share: float = 0.25

    def faults(self) -> list[str]:
        """Return one sentence for each field whose value is wrong."""
        checks = Checks("data", self)
        checks.at_least("batch_size", 1)
        checks.between("memory_share", 0.0, 1.0)
        for name in ("validation", "test"):
            checks.require(name, 0.0 < getattr(self, name) < 1.0, "greater than 0 and less than 1")
        if self.validation + self.test >= 1.0:
            checks.faults.append(
                "`data.validation` and `data.test` must leave examples for training; their sum "
                f"must be less than 1. Received: {self.validation} + {self.test}."
            )
        if isinstance(self.source, str):
            kind = self.source.split(":", 1)[0]
            # Which kinds there are is the task's to say, see `TaskConfig.sources`.
            if kind in _NEED_A_NAME and not self.source.partition(":")[2]:
                checks.faults.append(
                    f"`data.source` must have a value after {kind!r}, e.g. '{kind}:NAME'. "
                    f"Received: {self.source!r}."
                )
        self._check_format(checks)
        for name in self.columns:
            if name not in _COLUMNS:
                checks.faults.append(
                    f"The keys of `data.columns` must be among {', '.join(_COLUMNS)}. "
                    f"Received: {name!r}.{did_you_mean(name, _COLUMNS)}"
                )
        return checks.faults

    def _check_format(self, checks: Checks) -> None:
        """Record faults of `delimiter` and `encoding`."""
        kind = self.source.partition(":")[0] if isinstance(self.source, str) else ""
        for name, kinds in (("delimiter", _DELIMITED), ("encoding", _ENCODED)):
            if getattr(self, name) is not None and kind not in kinds:
                checks.faults.append(
                    f"`data.{name}` is for the sources {', '.join(kinds)}. "
                    f"Received: {getattr(self, name)!r} for {self.source!r}. Remove it."
                )
        if self.delimiter is not None:
            is_delimiter = self.delimiter in TABS or (
                len(self.delimiter) == 1 and self.delimiter not in '"\r\n\0'
            )
            checks.require("delimiter", is_delimiter, "one character, such as ';', or 'tab'")
        if self.encoding is not None:
            checks.require("encoding", _is_encoding(self.encoding), "an encoding, such as 'cp1252'")

    def require_path(self) -> None:
        """Check that the files of the source and of `exclude` exist.

        Raises:
          DataError: If one does not.
        """
        if self.exclude is not None and not Path(self.exclude).expanduser().exists():
            raise DataError(
                "`data.exclude` must name a file that exists, or a folder of such files. "
                f"Received: {self.exclude!r}."
            )
        if not isinstance(self.source, str):
            return
        kind, _, name = self.source.partition(":")
        noun = "folder" if kind == "folder" else "file"
        if kind in ("folder", *_TABLES, *_TEXT_FILES) and not Path(name).expanduser().exists():
            raise DataError(
                f"`data.source` must name a {noun} that exists. Received: {self.source!r}, "
                f"which is {Path(name).expanduser().absolute()}. "
                f"Set its path with --set=data.source={kind}:PATH."
            )


def _is_encoding(name: str) -> bool:
    try:
        # Python also has codecs that are no encodings of text, such as "rot13" and "zip".
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False
