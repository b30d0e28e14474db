"""Renders the page on several runs: their scores, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_keras.core.files import write_atomic
from sft_keras.report.format import figure_name
from sft_keras.report.run_page import flattened, safe_plot
from sft_keras.report.sweep_plot import Scored, score_by_row
from sft_keras.report.templates import page_template

_ABSENT = "\N{EN DASH}"


def write_comparison(runs: Sequence[Mapping[str, Any]], page: Path) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
      runs: What `sft_keras.compare.read_runs` gives.
      page: The file.
    """
    ordered = best_first(runs)
    score = ordered[0]["score"]
    page.parent.mkdir(parents=True, exist_ok=True)
    rendered = page_template("comparison.html.j2").render(
        report={"smoke": any(run["smoke"] for run in ordered)},
        runs=ordered,
        metric=figure_name(score),
        score=score,
        plot=safe_plot(score_by_row(figure_name(score), [_scored(run, score) for run in ordered])),
        differences=differences([run["recipe"] for run in ordered]),
        has_other_tests=len({frozenset(run["test_ids"]) for run in ordered}) > 1,
    )
    write_atomic(page, rendered)


def best_first(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the runs by falling validation score, by which one may choose."""
    return sorted(runs, key=lambda run: -_validated(run)[run["score"]]["value"])


def differences(recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Returns the fields in which recipes differ: (path, the value in each)."""
    values = [dict(flattened(recipe)) for recipe in recipes]
    paths = dict.fromkeys(path for own in values for path in own)
    rows = [(path, [own.get(path, _ABSENT) for own in values]) for path in paths]
    return [(path, row) for path, row in rows if len(set(row)) > 1]


def _validated(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return run["stages"][-1]["validation"]


def _scored(run: Mapping[str, Any], score: str) -> Scored:
    figures = {"validation": _validated(run), "test": run["test"]}
    spreads = {
        split: {
            "mean": figure[score]["value"],
            "low": figure[score]["low"],
            "high": figure[score]["high"],
        }
        for split, figure in figures.items()
    }
    return Scored(run["run"], spreads)
