"""Runs the sides of a case in turn, each in a process of its own, and sums up what they say."""

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

from written import read_results, write_results

_FIGURES = ("loss", "val_loss", "accuracy", "val_accuracy")
_SHOWN_OF_A_FAILURE = 4000  # characters


def run_pairs(
    command: Sequence[str], case: str, sides: Sequence[str], folder: Path, repeats: int
) -> dict[str, list[dict[str, Any]]]:
    """Runs each side `repeats` times, taking turns; returns what each run printed last, as JSON.

    A process for each run, because op determinism, once on, stays on in its process. By turns,
    so that a machine that gets slower or faster meanwhile does so for both.
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
    with tempfile.TemporaryDirectory() as nothing_stored:
        # An earlier run's frozen blocks, found on disk, would make this one look faster.
        environment = {**os.environ, "SFT_KERAS_CACHE": nothing_stored}
        ended = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(
            f"{case}:{side} failed with status {ended.returncode}. Its last words:\n"
            f"{ended.stderr[-_SHOWN_OF_A_FAILURE:]}"
        )
    return json.loads(ended.stdout.splitlines()[-1])


def summary(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    times: int,
    at_least: float | None,
    at_most: float | None,
) -> dict[str, Any]:
    """Returns a row's figures: seconds, their ratio (first side / second), losses of both sides.

    The seconds of the first side are multiplied by `times`.

    The losses are those of the first run of each side, at the end of each stage; the largest
    difference is over all epochs.
    """
    first, second = runs
    seconds = {side: [run["seconds"] for run in made] for side, made in runs.items()}
    ratios = [times * a / b for a, b in zip(seconds[first], seconds[second], strict=True)]
    ratio = statistics.median(ratios)
    histories = {side: made[0]["histories"] for side, made in runs.items()}
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
        "parts": {side: [run["parts"] for run in made] for side, made in runs.items()},
        **{
            name: {side: made[0][name] for side, made in runs.items() if name in made[0]}
            for name in shown
        },
        "histories": histories,
    }


def loss_differences(histories: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Returns (stage, figure and epoch; relative difference of the two sides) for each loss."""
    one, other = histories.values()
    found = []
    for stage in one:
        for name in ("loss", "val_loss"):
            # The ideal side validates what comes out of a stage, not each epoch.
            pairs = list(zip(reversed(one[stage][name]), reversed(other[stage][name])))
            for back, (a, b) in enumerate(pairs):
                epoch = len(one[stage][name]) - back
                found.append((f"{stage} {name} epoch {epoch}: {a:.7f}, {b:.7f}", abs(a - b) / b))
    return found


def _last_epochs(histories: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {stage: {figure: {side: its value in the last epoch}}}."""
    stages = next(iter(histories.values()))
    return {
        stage: {
            name: {
                side: history[stage][name][-1]
                for side, history in histories.items()
                if name in history[stage]
            }
            for name in _FIGURES
        }
        for stage in stages
    }


def write_case(name: str, command: str, environment: Mapping[str, Any], case: dict) -> None:
    """Adds one case, {name: figures}, to results/NAME.json; what it holds of others is kept."""
    held = read_results(name)
    cases = held.get("cases", {})
    for each in cases.values():
        # Kept from another machine or other versions: it says so itself.
        if held["environment"] != environment:
            each.setdefault("environment", held["environment"])
    write_results(name, command, {"cases": {**cases, **case}}, environment)


def table(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the cases as a Markdown table."""
    lines = [
        "| case | median seconds | ratio | range | wanted | met | loss | validation loss "
        "| validation accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        low, high = case["ratio_range"]
        (bound, wanted), *_ = case["wanted"].items()
        last = list(case["last_epoch"].values())[-1]
        figures = [
            " / ".join(f"{value:.5f}" for value in last[figure].values())
            for figure in ("loss", "val_loss", "val_accuracy")
        ]
        cells = [
            f"{name}: {case['ratio']}",
            " / ".join(f"{seconds:.1f}" for seconds in case["seconds_median"].values()),
            f"{case['ratio_median']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{bound.replace('_', ' ')} {wanted:g}",
            "yes" if case["met"] else "no",
            *figures,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
