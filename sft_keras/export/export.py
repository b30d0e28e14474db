"""The main path of exporting: a finished run in; files that answer as its model, measured, out."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import ExportError, numbered
from sft_keras.core.files import file_checksum, write_atomic
from sft_keras.core.reporter import CONSOLE, Reporter
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.export.benchmark import Measuring
from sft_keras.export.finished_run import MODEL, FinishedRun, open_model, read_run
from sft_keras.export.formats import FORMATS, PART, Format, chosen_formats, require_possible
from sft_keras.export.table import lines
from sft_keras.export.tokenizer_card import about_tokenizer
from sft_keras.report.amend import add_to_report
from sft_keras.runs.environment import environment
from sft_keras.tasks.text_base import TextTask

EXPORTS = "exports"
FACTS = "exports.json"
LARGEST_DIFFERENCE = 1e-3
"""By how much a probability of a file in float32 may differ from the trained model's."""
LARGEST_LOSS = 0.01
"""By how much the score on validation may fall where a file computes in integers."""


def export_run(
    run: str | Path,
    names: Sequence[str],
    *,
    accept_loss: bool = False,
    threads: int = 1,
    reporter: Reporter = CONSOLE,
) -> dict[str, Any]:
    """Writes a finished run's model in other formats, each asked about the whole test split.

    Args:
      run: The run folder.
      names: Of formats, see `FORMATS`.
      accept_loss: Whether a file in integers is kept whose score on validation is lower by over
        `LARGEST_LOSS`.
      threads: That a runtime may use within an operation, when its latency is measured.
      reporter: Receives log lines; by default they are printed.

    Returns:
      What exports.json holds.

    Raises:
      RecipeError: If a format is unknown, cannot be had of the task, or its extra is missing.
      RunFolderError: If `run` is not the folder of a finished run.
      DataError: If the data or the model are not what they were.
      ExportError: If a file could not be made, or does not answer as the trained model does; it is
        removed then, and those of the other formats are there.
    """
    chosen = chosen_formats(names)
    finished = read_run(run)
    require_possible(chosen, finished.recipe)
    folder = finished.path / EXPORTS
    folder.mkdir(exist_ok=True)
    rows, refused = {}, {}
    with configured_keras(finished.recipe), tempfile.TemporaryDirectory() as scratch:
        reporter.line(f"opening  {finished.path}")
        measuring = Measuring(finished, open_model(finished), Path(scratch), threads)
        for made in chosen:
            reporter.line(f"{made.name}  making it and asking it in a fresh process")
            try:
                rows[made.name] = _row(made, finished, measuring, accept_loss)
            except ExportError as error:
                refused[made.name] = str(error)
        facts = _facts(finished, measuring, rows, refused, folder)
    write_atomic(folder / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    add_to_report(finished.path, EXPORTS, facts)
    for line in lines(facts):
        reporter.line(line)
    if refused:
        raise ExportError(
            next(iter(refused.values()))
            if len(refused) == 1
            else numbered("Some files are not as the trained model.", list(refused.values()))
        )
    return facts


def _row(
    made: Format, finished: FinishedRun, measuring: Measuring, accept_loss: bool
) -> dict[str, Any]:
    """Makes a file and returns what was measured; only one that is good enough is kept."""
    path = finished.path / made.file
    if path.is_dir():
        return measuring.served(made, path)
    path.unlink(missing_ok=True)
    part = path.with_name(f"{PART}{path.name}")
    try:
        measuring.make(made, part)
        row = measuring.row(made, part)
        reason = "" if accept_loss and made.is_quantized else _reason(made, row)
        if reason:
            raise ExportError(reason)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return row


def _reason(made: Format, row: dict[str, Any]) -> str:
    """Returns why a file is not good enough; "" if it is."""
    if not made.is_quantized:
        if row["largest_difference"] <= LARGEST_DIFFERENCE:
            return ""
        return (
            f"{made.file} does not answer as the trained model. Expected probabilities within "
            f"{LARGEST_DIFFERENCE:g} on the test split; received a difference of "
            f"{row['largest_difference']:.3g}. The file was removed; take another format."
        )
    name, before, after = (row["validation"][each] for each in ("name", "trained", "exported"))
    if before - after <= LARGEST_LOSS + 1e-9:
        return ""
    return (
        f"{made.file} is worse than the trained model: {name} on validation falls from "
        f"{before:.4f} to {after:.4f}, on test from {row['score']['trained']:.4f} to "
        f"{row['score']['exported']:.4f}. Expected on validation: by no more than "
        f"{LARGEST_LOSS:g}. The file was removed; take litert, or keep it so with --accept_loss."
    )


def _facts(
    finished: FinishedRun,
    measuring: Measuring,
    rows: dict[str, Any],
    refused: dict[str, str],
    folder: Path,
) -> dict[str, Any]:
    """Returns what exports.json holds, with what an earlier command measured of the same model."""
    task, model = finished.recipe.task, file_checksum(finished.path / MODEL)
    earlier = _earlier(folder / FACTS, model)
    kept = {
        name: row
        for name, row in earlier.items()
        if name not in refused and (finished.path / row["file"]).exists()
    }
    all_rows = {**kept, **rows}
    return {
        "format": 1,
        "model_sha256": model,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": environment(),
        "class_names": list(measuring.class_names),
        "tokenizer": (
            about_tokenizer(finished.recipe, folder) if isinstance(task, TextTask) else None
        ),
        "rows": [all_rows[name] for name in FORMATS if name in all_rows],
        "refused": refused,
    }


def _earlier(path: Path, model: str) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {r["format"]: r for r in facts["rows"]} if facts["model_sha256"] == model else {}
    except (OSError, ValueError, LookupError, TypeError):  # none, or not one of this command's
        return {}
