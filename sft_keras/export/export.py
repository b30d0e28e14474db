"""Exports a finished run to other formats and verifies each file against the trained model."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.errors import ExportError, numbered
from sft_keras.core.files import write_atomic
from sft_keras.core.reporter import CONSOLE, Reporter
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.export.benchmark import ExportBenchmark
from sft_keras.export.finished_run import FinishedRun, RestoredRun, read_run, restore_run
from sft_keras.export.formats import PART, Format, require_exportable, select_formats
from sft_keras.export.manifest import MANIFEST, build_manifest
from sft_keras.export.table import format_table
from sft_keras.report.amend import add_to_report

EXPORTS = "exports"
LARGEST_DIFFERENCE = 1e-3
"""The largest allowed difference of a float32 file's probabilities from the trained model's."""
LARGEST_LOSS = 0.01
"""The largest allowed drop of a quantized file's validation score."""


def export_run(
    run: str | Path,
    names: Sequence[str],
    *,
    accept_loss: bool = False,
    threads: int = 1,
    reporter: Reporter = CONSOLE,
) -> dict[str, Any]:
    """Export a finished run to other formats, each verified on the whole test split.

    Example: `export_run("runs/quickstart", ["litert", "onnx"])`

    Args:
      run: The run folder.
      names: The names of formats, see `FORMATS`.
      accept_loss: Whether to keep a quantized file whose validation score drops by more than
        `LARGEST_LOSS`.
      threads: The number of threads that a runtime may use within an operation when its latency
        is measured.
      reporter: Receives log lines. The default prints them.

    Returns:
      The contents of exports.json.

    Raises:
      RecipeError: A format is unknown, unsupported for the task, or its extra is not installed.
      RunFolderError: `run` is not the folder of a finished run.
      DataError: The data or the model have changed since the run.
      ExportError: A file could not be written, or its outputs differ from the trained model's. It
        is removed; files in other formats are kept.
    """
    targets = select_formats(names)
    finished = read_run(run)
    require_exportable(targets, finished.recipe)
    folder = finished.path / EXPORTS
    folder.mkdir(exist_ok=True)
    rows: dict[str, Any] = {}
    refused: dict[str, str] = {}
    # Some layers of KerasHub create others when they are called, in the precision set then.
    in_float32 = dataclasses.replace(finished.recipe, precision="float32")
    with configured_keras(in_float32), tempfile.TemporaryDirectory() as scratch:
        reporter.line(f"loading  {finished.path}")
        restored = _restore(finished, reporter)
        benchmark = ExportBenchmark(finished, restored, Path(scratch), threads)
        for target in targets:
            reporter.line(f"{target.name}  exporting and verifying in a fresh process")
            try:
                rows[target.name] = _export(target, finished, benchmark, accept_loss)
            except ExportError as error:
                refused[target.name] = str(error)
        manifest = build_manifest(finished, benchmark.class_names, rows, refused, folder)
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    add_to_report(finished.path, EXPORTS, manifest)
    for line in format_table(manifest):
        reporter.line(line)
    _raise_refused(list(refused.values()))
    return manifest


def _restore(finished: FinishedRun, reporter: Reporter) -> RestoredRun:
    """Return the model and the data of the run; log if the model was trained in half precision."""
    restored = restore_run(finished)
    if restored.half_precision:
        reporter.line(
            f"note  the run computed in {restored.half_precision}; the files compute in float32, "
            "with the same weights, and are verified against that model"
        )
    return restored


def _raise_refused(reasons: list[str]) -> None:
    if len(reasons) == 1:
        raise ExportError(reasons[0])
    if reasons:
        raise ExportError(numbered("Some files differ from the trained model.", reasons))


def _export(
    target: Format, finished: FinishedRun, benchmark: ExportBenchmark, accept_loss: bool
) -> dict[str, Any]:
    """Write a file and return its measurements. A file that is not good enough is removed."""
    path = finished.path / target.file
    if path.is_dir():
        return benchmark.measure_saved_model(target, path)
    path.unlink(missing_ok=True)
    part = path.with_name(f"{PART}{path.name}")
    try:
        benchmark.convert(target, part)
        row = benchmark.measure(target, part)
        reason = "" if accept_loss and target.is_quantized else rejection_reason(target, row)
        if reason:
            raise ExportError(reason)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return row


def rejection_reason(target: Format, row: dict[str, Any]) -> str:
    """Return why a file is rejected; "" if it is good enough.

    Args:
      target: The format of the file.
      row: Its row of exports.json.
    """
    if not target.is_quantized:
        if row["largest_difference"] <= LARGEST_DIFFERENCE:
            return ""
        return (
            f"{target.file} differs from the trained model. Expected: probabilities within "
            f"{LARGEST_DIFFERENCE:g} on the test split. Received: a difference of "
            f"{row['largest_difference']:.3g}. The file was removed; use another format."
        )
    validation = row["validation"]
    name, before, after = validation["name"], validation["trained"], validation["exported"]
    if before - after <= LARGEST_LOSS + 1e-9:
        return ""
    return (
        f"{target.file} is worse than the trained model: {name} on validation drops from "
        f"{before:.4f} to {after:.4f}, on test from {row['score']['trained']:.4f} to "
        f"{row['score']['exported']:.4f}. Expected on validation: a drop of at most "
        f"{LARGEST_LOSS:g}. The file was removed; use litert, or keep it with --accept_loss."
    )
