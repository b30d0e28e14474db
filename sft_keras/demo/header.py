"""The header of the page: what was trained, and its test score. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.files import read_json, reading_run_file
from sft_keras.runs.folder import REPORT


@dataclasses.dataclass(frozen=True)
class About:
    """A description of a run.

    Attributes:
      name: The name of the run folder.
      lines: What was trained on which data, and the test score; empty without a report.
    """

    name: str
    lines: tuple[str, ...] = ()


def read_about(run: str | Path) -> About:
    """Read the description of a run from its report.

    Raises:
      RunFolderError: The report is invalid.
    """
    folder = Path(run).expanduser().resolve()
    file = folder / REPORT
    if not file.is_file():
        return About(folder.name)
    report = read_json(file)
    with reading_run_file(file):
        lines = (_training_line(report), _score_line(report))
    return About(folder.name, lines)


def _training_line(report: Mapping[str, Any]) -> str:
    from sft_keras.report.format import counted

    data = report["data"]
    line = f"{_short(report['model']['preset'])}, trained on "
    line += f"{counted(data['sizes']['train'], 'example')} of {_short(data['source'])}"
    if data["class_names"]:
        line += f" in {counted(len(data['class_names']), 'class', 'classes')}"
    return (
        f"{line}. A smoke run: random weights, synthetic data." if report["smoke"] else f"{line}."
    )


def _score_line(report: Mapping[str, Any]) -> str:
    from sft_keras.report.format import counted, metric_interval, metric_label, metric_value

    name, test = report["score"], report["test"]
    metric = report.get("metrics", {}).get(name)
    score, examples = test[name], counted(test["examples"], "test example")
    bounds = f"95 % interval {metric_interval(score, metric)}, {examples}"
    return f"Test {metric_label(name)} {metric_value(score['value'], metric)} ({bounds})."


def _short(source: str) -> str:
    """Return "csv:/home/ada/reviews.csv" as "csv:reviews.csv".

    Visitors must not see the paths of this machine, nor the sizes in "Arrays(...)".
    """
    kind, colon, name = source.partition(":")
    if not colon or "(" in kind:
        return source.partition("(")[0]
    return f"{kind}:{name.rstrip('/').rpartition('/')[2]}"
