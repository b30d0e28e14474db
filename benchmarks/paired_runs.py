"""Run the sides of a case alternately, each in its own process, and summarize their results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results_file import read_results, write_results

_METRICS = ("loss", "val_loss", "accuracy", "val_accuracy")
_MAX_SHOWN_OUTPUT = 4000  # characters of a failed process


def run_pairs(
    command: Sequence[str], case: str, sides: Sequence[str], folder: Path, repeats: int
) -> dict[str, list[dict[str, Any]]]:
    """Run each side `repeats` times alternately and return the results per side.

    Each run has its own process, because op determinism cannot be turned off again in a process.
    The sides alternate so that a machine whose speed changes over time affects both alike.

    Args:
      command: The benchmark program and its flags.
      case: Name of the case.
      sides: Names of the sides.
      folder: Folder for the files that all sides start from.
      repeats: Number of runs per side.

    Returns:
      {side: results of its runs}, each the JSON object on the last line of the run's output.
    """
    _child(command, case, "prepare", folder)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(1, repeats + 1):
        for side in sides:
            run = _child(command, case, side, folder)
            runs[side].append(run)
            print(f"{case}  {side} {number}/{repeats}: {run['seconds']:.1f} s", flush=True)
    return runs


def _child(command: Sequence[str], case: str, side: str, folder: Path) -> dict[str, Any]:
    arguments = [sys.executable, *command, f"--child={case}:{side}", f"--folder={folder}"]
    with tempfile.TemporaryDirectory() as empty_cache:
        # Features that an earlier run cached on disk would make this one look faster.
        environment = {**os.environ, "SFT_KERAS_CACHE": empty_cache}
        finished = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(
            f"{case}:{side} failed with exit status {finished.returncode}. The end of its output:\n"
            f"{finished.stderr[-_MAX_SHOWN_OUTPUT:]}"
        )
    return json.loads(finished.stdout.splitlines()[-1])


def summary(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    times: int,
    at_least: float | None,
    at_most: float | None,
) -> dict[str, Any]:
    """Return the summary of a comparison: seconds, their ratio, and the losses of both sides.

    Args:
      runs: The runs of the two sides; the ratio is that of the first to the second.
      times: Factor for the seconds of the first side.
      at_least: Required lower bound of the ratio; None if `at_most` is given.
      at_most: Required upper bound of the ratio.

    Returns:
      The summary. Its losses are those of the first run of each side at the end of each stage; the
      largest difference is over all epochs.
    """
    first, second = runs
    seconds = {side: [run["seconds"] for run in side_runs] for side, side_runs in runs.items()}
    ratios = [times * a / b for a, b in zip(seconds[first], seconds[second], strict=True)]
    ratio = statistics.median(ratios)
    histories = {side: side_runs[0]["histories"] for side, side_runs in runs.items()}
    shown = ("trainable_parameters", "frozen_blocks", "best_epochs")
    return {
        "seconds": seconds,
        "seconds_median": {side: statistics.median(values) for side, values in seconds.items()},
        "ratio": f"{first} / {second}" if times == 1 else f"{times} x {first} / {second}",
        "ratios": ratios,
        "ratio_median": ratio,
        "ratio_range": [min(ratios), max(ratios)],
        "wanted": {"at_least": at_least} if at_most is None else {"at_most": at_most},
        "met": ratio >= at_least if at_most is None else ratio <= at_most,
        "last_epoch": _last_epochs(histories),
        "largest_relative_difference_of_a_loss": max(
            difference for _, difference in loss_differences(histories)
        ),
        "parts": {side: [run["parts"] for run in side_runs] for side, side_runs in runs.items()},
        **{
            name: {
                side: side_runs[0][name] for side, side_runs in runs.items() if name in side_runs[0]
            }
            for name in shown
        },
        "histories": histories,
    }


def loss_differences(histories: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return (stage, loss and epoch in words; relative difference of the two sides) per loss."""
    one, other = histories.values()
    differences = []
    for stage in one:
        for name in ("loss", "val_loss"):
            # The ideal side validates only at the end of a stage, so compare from the last epoch.
            pairs = list(zip(reversed(one[stage][name]), reversed(other[stage][name])))
            for back, (a, b) in enumerate(pairs):
                epoch = len(one[stage][name]) - back
                differences.append(
                    (f"{stage} {name} epoch {epoch}: {a:.7f}, {b:.7f}", abs(a - b) / b)
                )
    return differences


def _last_epochs(histories: Mapping[str, Any]) -> dict[str, Any]:
    """Return {stage: {metric: {side: value in the last epoch}}}."""
    stages = next(iter(histories.values()))
    return {
        stage: {
            name: {
                side: history[stage][name][-1]
                for side, history in histories.items()
                if name in history[stage]
            }
            for name in _METRICS
        }
        for stage in stages
    }


def write_case(name: str, command: str, environment: Mapping[str, Any], case: dict) -> None:
    """Add one case, {name: summary}, to results/NAME.json and keep the others."""
    previous = read_results(name)
    cases = previous.get("cases", {})
    for kept in cases.values():
        # A case measured on another machine or with other versions records its own environment.
        if previous["environment"] != environment:
            kept.setdefault("environment", previous["environment"])
    write_results(name, command, {"cases": {**cases, **case}}, environment)


def table(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the cases as a Markdown table."""
    lines = [
        "| case | median seconds | ratio | range | wanted | met | loss | validation loss "
        "| validation accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        low, high = case["ratio_range"]
        (bound, wanted), *_ = case["wanted"].items()
        last = list(case["last_epoch"].values())[-1]
        losses = [
            " / ".join(f"{value:.5f}" for value in last[metric].values())
            for metric in ("loss", "val_loss", "val_accuracy")
        ]
        cells = [
            f"{name}: {case['ratio']}",
            " / ".join(f"{seconds:.1f}" for seconds in case["seconds_median"].values()),
            f"{case['ratio_median']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{bound.replace('_', ' ')} {wanted:g}",
            "yes" if case["met"] else "no",
            *losses,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
