"""Writes `report.json`, `report.html` and the model card into a run folder."""

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

# The order in which people read the file: what it is, how good the result is, what went in.
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
    "intervals",
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
    images: Sequence[bytes],
    folder: Path,
    pipeline_tag: str | None = None,
) -> None:
    """Write the report of one run, each file atomically.

    `report.json` is written first, so that the metrics survive if rendering the page fails.

    Args:
      report: Plain values (NumPy scalars and arrays are converted) with these keys. Fractions are
        in 0..1, times in seconds, and epochs count from 1. Floats that are not finite become
        null, since JSON has no NaN.

        - `format`, `smoke`, `title`, `description`, `command`, `started`, `seconds`
        - `score`: The name of the main metric in `test`.
        - `intervals`: What the confidence intervals are, in a sentence or two.
        - `test`, `stages`: The metrics of the test split and of each stage.
        - `mistakes`, `uncertain`: The examples to show, see `ReportExamples`.
        - `data`, `inputs`: The data source, and the preprocessing statistics per split.
        - `checked`: The findings of the data check before training, each as "what" and whether
          it "spoils" the result.
        - `model`, `export` (or None), `environment`, `recipe`, `notes`
        - `exports`: The contents of exports.json, if the model was exported to other formats.
      images: PNG files. An example refers to one by its index, as "picture".
      folder: The folder to write to. It is created if needed.
      pipeline_tag: The Hugging Face Hub's name of the task, for the model card. None writes no
        model card.

    Raises:
      TypeError: A value is neither plain nor a NumPy value.
      ValueError: An image is missing or is not a PNG file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ordered = _in_reading_order(_finite(plain(report)))
    write_atomic(folder / "report.json", _json_text(ordered) + "\n")
    write_atomic(folder / "report.html", render_page(ordered, images))
    if pipeline_tag is not None:
        write_atomic(folder / "README.md", render_model_card(ordered, pipeline_tag))


def _finite(value: Any) -> Any:
    """Return plain values with None in place of NaN and infinities, which JSON cannot express."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_reading_order(report: dict[str, Any]) -> dict[str, Any]:
    """Return `report` with its keys in `_READING_ORDER`, other keys last, packages sorted."""
    first = [key for key in _READING_ORDER if key in report]
    ordered = {key: report[key] for key in [*first, *sorted(report.keys() - set(first))]}
    packages = ordered["environment"]["packages"]
    ordered["environment"] = {**ordered["environment"], "packages": dict(sorted(packages.items()))}
    return ordered


def _json_text(value: Any, indent: str = "") -> str:
    """Return indented JSON that keeps a list of scalars on one line.

    `json.dumps(indent=2)` would use one line per number of a confusion matrix.
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
