"""Renders the page of a sweep, a backbone comparison, or repeated trials of one recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.files import write_atomic
from sft_keras.core.flatten import flatten_as_text
from sft_keras.report.format import metric_label
from sft_keras.report.run_page import plot_context
from sft_keras.report.sweep_plot import Scored, score_by_row, score_over_value
from sft_keras.report.templates import page_template

# A plot with more rows is unreadable; the table lists all of them.
_MAX_PLOT_ROWS = 40


def write_sweep_page(report: Mapping[str, Any], folder: Path) -> None:
    """Write report.html for a plan of trials, atomically.

    Args:
      report: The result of `run_trials`, in plain values. If the plan was stopped early, trials
        of the last point and whole points at the end may be missing.
      folder: The folder to write to. It is created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "report.html", _render(report))


def _render(report: Mapping[str, Any]) -> str:
    fields = _fields(report)
    points = [_point(report, index) for index in range(len(report["points"]))]
    metric = report.get("metrics", {}).get(report["metric"])
    rows = _best_first(points, metric is None or metric["higher_is_better"])
    best = next((point for point in points if point["is_best"]), None)
    return page_template("trials.html.j2").render(
        report=report,
        heading=_heading(report, fields),
        metric=metric_label(report["metric"] or "score"),
        repeated=bool(report["folds"]) or len(report["seeds"]) > 1,
        fields=fields,
        rows=rows,
        best=best,
        scored=sum(bool(point["scores"]) for point in points),
        splits=list(best["scores"]) if best else [],
        trials=[{**trial, "point": point} for point in points for trial in point["repeats"]],
        plot=_plot(report, rows, fields),
        recipe_lines=list(flatten_as_text(report["recipe"])),
    )


def _heading(report: Mapping[str, Any], fields: Sequence[str]) -> str:
    if report["kind"] == "sweep":
        return "a sweep over " + ", ".join(field.rpartition(".")[2] for field in fields)
    if report["kind"] == "backbones":
        return "backbones compared"
    return f"{report['folds']} folds" if report["folds"] else f"{len(report['seeds'])} seeds"


def _fields(report: Mapping[str, Any]) -> list[str]:
    """Return the paths of the fields that a sweep varies."""
    if report["kind"] != "sweep":
        return []
    return [_split_override(override)[0] for override in report["points"][0]["overrides"]]


def _split_override(override: str) -> tuple[str, str]:
    path, _, value = override.partition("=")
    return path, value


def _point(report: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return a point with the additional columns of its table row."""
    point = report["points"][index]
    finished = [trial for trial in point["repeats"] if trial["failure"] is None]
    return {
        **point,
        "cells": [_split_override(override)[1] for override in point["overrides"]],
        "is_best": index == report["best"],
        "parameters": finished[0]["parameters"] if finished else None,
    }


def _best_first(
    points: Sequence[dict[str, Any]], higher_is_better: bool = True
) -> list[dict[str, Any]]:
    """Return the points, best score first, ties by ascending loss, failed points last."""

    def rank(point: dict[str, Any]) -> tuple[float, float]:
        if not point["scores"]:
            return math.inf, math.inf
        mean = point["scores"]["validation"]["mean"]
        return -mean if higher_is_better else mean, point["loss"]["mean"]

    return sorted(points, key=rank)


def _plot(
    report: Mapping[str, Any], rows: Sequence[dict[str, Any]], fields: Sequence[str]
) -> dict[str, Any] | None:
    """Return the plot with the facts for its caption, or None if no point has a score."""
    if report["kind"] == "repeats":
        trials = rows[0]["repeats"]
        scored = [Scored(trial["name"], _as_spreads(trial.get("scores", {}))) for trial in trials]
    else:
        scored = [Scored(_label(row, fields), row["scores"], row["is_best"]) for row in rows]
    finished = [row for row in scored if row.scores]
    metric = report.get("metrics", {}).get(report["metric"])
    is_share = metric is None or metric["is_share"]
    if not finished:
        return None
    values = [_number(row["cells"][0]) for row in rows] if len(fields) == 1 else []
    numbers = [value for value in values if value is not None]
    if len(numbers) == len(rows):
        plot = score_over_value(fields[0], report["metric"], numbers, scored, is_share)
        return {**plot_context(plot), "has_failed": len(finished) < len(scored), "left_out": 0}
    plot = score_by_row(report["metric"], finished[:_MAX_PLOT_ROWS], is_share)
    left_out = max(0, len(finished) - _MAX_PLOT_ROWS)
    return {
        **plot_context(plot),
        "has_failed": False,
        "left_out": left_out,
        "drawn": _MAX_PLOT_ROWS,
    }


def _as_spreads(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {split: dict.fromkeys(("mean", "low", "high"), score) for split, score in scores.items()}


def _label(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """Return the label of a point in the plot; the names of the fields are in the legend."""
    return ", ".join(row["cells"]) if fields else row["name"]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
