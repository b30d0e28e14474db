"""Renders the page on many trials of a recipe: what was compared, how each did, which was best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.files import write_atomic
from sft_keras.report.format import figure_name
from sft_keras.report.run_page import flattened, safe_plot
from sft_keras.report.sweep_plot import Scored, score_by_row, score_over_value
from sft_keras.report.templates import page_template

# A plot of more rows would be a wall; the table has them all.
_MOST_ROWS = 40


def write_sweep_page(report: Mapping[str, Any], folder: Path) -> None:
    """Writes report.html on the trials of a plan; it appears whole or not at all.

    Args:
      report: What `run_trials` returns, in plain values. Trials that were planned
        may be missing, those of points at the end or of the last point.
      folder: Where to write; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "report.html", _render(report))


def _render(report: Mapping[str, Any]) -> str:
    fields = _fields(report)
    points = [_point(report, index) for index in range(len(report["points"]))]
    rows = _best_first(points)
    best = next((point for point in points if point["is_best"]), None)
    return page_template("trials.html.j2").render(
        report=report,
        heading=_heading(report, fields),
        metric=figure_name(report["metric"] or "score"),
        repeated=bool(report["folds"]) or len(report["seeds"]) > 1,
        fields=fields,
        rows=rows,
        best=best,
        scored=sum(bool(point["scores"]) for point in points),
        splits=list(best["scores"]) if best else [],
        trials=[{**trial, "point": point} for point in points for trial in point["repeats"]],
        plot=_plot(report, rows, fields),
        recipe_lines=list(flattened(report["recipe"])),
    )


def _heading(report: Mapping[str, Any], fields: Sequence[str]) -> str:
    if report["kind"] == "sweep":
        return "a sweep over " + ", ".join(field.rpartition(".")[2] for field in fields)
    if report["kind"] == "backbones":
        return "backbones compared"
    return f"{report['folds']} folds" if report["folds"] else f"{len(report['seeds'])} seeds"


def _fields(report: Mapping[str, Any]) -> list[str]:
    """Returns the paths of the fields that a sweep varies."""
    if report["kind"] != "sweep":
        return []
    return [_halves(override)[0] for override in report["points"][0]["overrides"]]


def _halves(override: str) -> tuple[str, str]:
    path, _, value = override.partition("=")
    return path, value


def _point(report: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Returns a point with what its row of the table has besides."""
    point = report["points"][index]
    done = [trial for trial in point["repeats"] if trial["failure"] is None]
    return {
        **point,
        "cells": [_halves(override)[1] for override in point["overrides"]],
        "is_best": index == report["best"],
        "parameters": done[0]["parameters"] if done else None,
    }


def _best_first(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the points by falling score, equal ones by rising loss, failed ones last."""

    def rank(point: dict[str, Any]) -> tuple[float, float]:
        if not point["scores"]:
            return math.inf, math.inf
        return -point["scores"]["validation"]["mean"], point["loss"]["mean"]

    return sorted(points, key=rank)


def _plot(
    report: Mapping[str, Any], rows: Sequence[dict[str, Any]], fields: Sequence[str]
) -> dict[str, Any] | None:
    """Returns the plot for the template and what to say of it; None if nothing has a score."""
    if report["kind"] == "repeats":
        trials = rows[0]["repeats"]
        scored = [Scored(trial["name"], _as_spreads(trial.get("scores", {}))) for trial in trials]
    else:
        scored = [Scored(_label(row, fields), row["scores"], row["is_best"]) for row in rows]
    done = [each for each in scored if each.scores]
    if not done:
        return None
    values = [_number(row["cells"][0]) for row in rows] if len(fields) == 1 else [None]
    if None not in values:
        plot = score_over_value(fields[0], report["metric"], values, scored)
        return {**safe_plot(plot), "has_failed": len(done) < len(scored), "left_out": 0}
    plot = score_by_row(report["metric"], done[:_MOST_ROWS])
    left_out = max(0, len(done) - _MOST_ROWS)
    return {**safe_plot(plot), "has_failed": False, "left_out": left_out, "drawn": _MOST_ROWS}


def _as_spreads(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {split: dict.fromkeys(("mean", "low", "high"), score) for split, score in scores.items()}


def _label(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """Returns what to call a point beside its dot; the fields themselves are in the plot's key."""
    return ", ".join(row["cells"]) if fields else row["name"]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
