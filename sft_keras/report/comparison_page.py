"""Renders the page that compares several runs: their scores and their recipe differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.files import write_atomic
from sft_keras.core.flatten import flatten_as_text
from sft_keras.report.format import metric_label
from sft_keras.report.run_page import plot_context
from sft_keras.report.sweep_plot import Scored, score_by_row
from sft_keras.report.templates import page_template

_ABSENT = "\N{EN DASH}"


def write_comparison(runs: Sequence[Mapping[str, Any]], page: Path) -> None:
    """Write the comparison page atomically.

    Args:
      runs: The runs as `sft_keras.compare.read_runs` returns them; at least one.
      page: The HTML file to write. Its folder is created if needed.
    """
    ordered = best_first(runs)
    score = ordered[0]["score"]
    label = metric_label(score)
    page.parent.mkdir(parents=True, exist_ok=True)
    rendered = page_template("comparison.html.j2").render(
        report={"smoke": any(run["smoke"] for run in ordered)},
        runs=ordered,
        metric=label,
        score=score,
        plot=plot_context(score_by_row(label, [_scored(run, score) for run in ordered])),
        differences=differences([run["recipe"] for run in ordered]),
        has_other_tests=len({frozenset(run["test_ids"]) for run in ordered}) > 1,
    )
    write_atomic(page, rendered)


def best_first(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the runs by descending validation score; the test score must not select a run."""
    return sorted(runs, key=lambda run: -_validation_metrics(run)[run["score"]]["value"])


def differences(recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return (path, value in each recipe) for every field in which the recipes differ."""
    flat_recipes = [dict(flatten_as_text(recipe)) for recipe in recipes]
    paths = dict.fromkeys(path for fields in flat_recipes for path in fields)
    rows = [(path, [fields.get(path, _ABSENT) for fields in flat_recipes]) for path in paths]
    return [(path, row) for path, row in rows if len(set(row)) > 1]


def _validation_metrics(run: Mapping[str, Any]) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = run["stages"][-1]["validation"]
    return metrics


def _scored(run: Mapping[str, Any], score: str) -> Scored:
    splits = {"validation": _validation_metrics(run), "test": run["test"]}
    spreads = {
        split: {
            "mean": metrics[score]["value"],
            "low": metrics[score]["low"],
            "high": metrics[score]["high"],
        }
        for split, metrics in splits.items()
    }
    return Scored(run["run"], spreads)
