"""Writes `report.json`, `report.html` and a model card into a run's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.files import write_atomic
from sft_keras.core.snapshot import plain
from sft_keras.report.model_card import render_model_card
from sft_keras.report.run_page import render_page

# The order in which a person reads the file: what it is, how well it went, what went in.
_READING_ORDER = (
    "format",
    "smoke",
    "title",
    "description",
    "command",
    "started",
    "seconds",
    "score",
    "test",
    "stages",
    "mistakes",
    "uncertain",
    "data",
    "inputs",
    "checked",
    "model",
    "export",
    "exports",
    "environment",
    "recipe",
    "notes",
)


def write_report(
    report: Mapping[str, Any],
    pictures: Sequence[bytes],
    folder: Path,
    pipeline_tag: str | None = None,
) -> None:
    """Writes the report of one run; each file appears whole or not at all.

    `report.json` is written first, so that the figures are kept should the page fail.

    Args:
      report: Plain values (NumPy scalars and arrays are turned into such) with the keys `format`,
        `smoke`, `title`, `description`, `command`, `started`, `seconds`, `score` (the name of the
        figure of `test` that comes first), `test`, `stages`, `mistakes` and `uncertain` (see
        `ReportExamples`), `data`, `inputs` (by split, what preparing found), `checked` (what a
        check of the data found before training, each as "what" and whether it "spoils" the
        result), `model`, `export` (or None), `environment`, `recipe`, `notes`; and where files in
        other formats were made, `exports`, as exports.json has it.
        Shares are in 0..1, times in seconds; epochs count from 1. A float that is not finite
        becomes null, since JSON has no NaN.
      pictures: PNG files, which examples name by their place.
      folder: Where to write; made if it is not there.
      pipeline_tag: What Hugging Face's hub calls the task, for a model card; None for none.

    Raises:
      TypeError: A value is neither plain nor NumPy's.
      ValueError: A picture is no PNG file, or is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ordered = _in_reading_order(_finite(plain(report)))
    write_atomic(folder / "report.json", _json_text(ordered) + "\n")
    write_atomic(folder / "report.html", render_page(ordered, pictures))
    if pipeline_tag is not None:
        write_atomic(folder / "README.md", render_model_card(ordered, pipeline_tag))


def _finite(value: Any) -> Any:
    """Returns plain values with None for numbers that are not finite, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_reading_order(report: dict[str, Any]) -> dict[str, Any]:
    """Returns `report` with its keys in `_READING_ORDER`, others behind, packages by name."""
    known = [key for key in _READING_ORDER if key in report]
    ordered = {key: report[key] for key in [*known, *sorted(report.keys() - set(known))]}
    packages = ordered["environment"]["packages"]
    ordered["environment"] = {**ordered["environment"], "packages": dict(sorted(packages.items()))}
    return ordered


def _json_text(value: Any, indent: str = "") -> str:
    """Returns indented JSON in which a list of single values takes one line.

    `json.dumps(indent=2)` would spend a line on each number of a confusion matrix.
    """
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = (f"{_one_line(key)}: {_json_text(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return (
            "[\n" + ",\n".join(inner + _json_text(item, inner) for item in value) + f"\n{indent}]"
        )
    return _one_line(value)


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
