"""exports.json: the manifest of a run's exported files, with what their users must know."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.files import file_checksum, write_atomic
from sft_keras.export.finished_run import MODEL, FinishedRun
from sft_keras.export.formats import FORMATS
from sft_keras.runs.environment import environment
from sft_keras.tasks.base import build_task
from sft_keras.tasks.text_base import TextTask

MANIFEST = "exports.json"
VOCABULARY = "vocabulary.json"


def build_manifest(
    run: FinishedRun,
    class_names: Sequence[str],
    rows: dict[str, Any],
    refused: dict[str, str],
    folder: Path,
) -> dict[str, Any]:
    """Return the contents of exports.json, including files that earlier commands exported.

    Args:
      run: The finished run.
      class_names: The names along the last axis of the probabilities.
      rows: The measurements of this command, by format.
      refused: Why a format was rejected, by format.
      folder: The folder of the exported files.
    """
    model = file_checksum(run.path / MODEL)
    kept = {
        name: row
        for name, row in _earlier_rows(folder / MANIFEST, model).items()
        if name not in refused and (run.path / row["file"]).exists()
    }
    all_rows = {**kept, **rows}
    task = build_task(run.recipe)
    return {
        "format": 1,
        "model_sha256": model,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": environment(),
        "class_names": list(class_names),
        "tokenizer": write_tokenizer_card(task, folder) if isinstance(task, TextTask) else None,
        "rows": [all_rows[name] for name in FORMATS if name in all_rows],
        "refused": refused,
    }


def write_tokenizer_card(task: TextTask[Any], folder: Path) -> dict[str, Any]:
    """Write the vocabulary as a list of tokens by id, and return a description of the tokenizer.

    Files other than the SavedModel contain no tokenizer; their users must tokenize texts.

    Args:
      task: The text task.
      folder: The folder to write to.
    """
    encoder = task.encoder
    tokens = json.dumps(list(encoder.vocabulary()), ensure_ascii=False, indent=0)
    write_atomic(folder / VOCABULARY, tokens + "\n")
    special = encoder.special
    return {
        "note": "Only the SavedModel contains the tokenizer: the other files take token ids.",
        "preset": task.recipe.backbone.preset,
        "splits_by": type(encoder.pieces).__name__.lstrip("_"),
        "vocabulary": f"{folder.name}/{VOCABULARY}",
        "sequence_length": encoder.sequence_length,
        "special": {
            "pad": special.pad,
            "start": special.start,
            "end": special.end,
            "mask": special.mask,
        },
    }


def _earlier_rows(path: Path, model: str) -> dict[str, Any]:
    """Return the rows of an existing manifest by format; {} if it is about another model."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["model_sha256"] != model:
            return {}
        return {row["format"]: row for row in manifest["rows"]}
    except (OSError, ValueError, LookupError, TypeError):  # missing, or not a manifest
        return {}
