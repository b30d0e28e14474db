"""What the page says of the run at its head. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.files import read_json, reading_run_file
from sft_keras.runs.folder import REPORT


@dataclasses.dataclass(frozen=True)
class About:
    """A run.

    Attributes:
      name: That of its folder.
      lines: What was trained on what, and the score; none where the folder has no report.
      fills_gaps: Whether it is a masked language model, which is asked about a [MASK].
    """

    name: str
    lines: tuple[str, ...] = ()
    fills_gaps: bool = False


def read_about(run: str | Path) -> About:
    """Reads it from the run's report.

    Raises:
      RunFolderError: If the report is not as it was written.
    """
    folder = Path(run).expanduser().resolve()
    file = folder / REPORT
    if not file.is_file():
        return About(folder.name)
    report = read_json(file)
    with reading_run_file(file):
        lines = (_trained(report), _scored(report["score"], report["test"]))
        fills_gaps = report["recipe"]["task"]["kind"] == "MaskedLM"
    return About(folder.name, lines, fills_gaps)


def _trained(report: Mapping[str, Any]) -> str:
    from sft_keras.report.format import counted

    data = report["data"]
    line = f"{_short(report['model']['preset'])}, trained on "
    line += f"{counted(data['sizes']['train'], 'example')} of {_short(data['source'])}"
    if data["class_names"]:
        line += f" in {counted(len(data['class_names']), 'class', 'classes')}"
    return f"{line}. A smoke run: random weights, made-up data." if report["smoke"] else f"{line}."


def _scored(name: str, test: Mapping[str, Any]) -> str:
    from sft_keras.report.format import counted, interval, metric_label, percent

    score, examples = test[name], counted(test["examples"], "test example")
    bounds = f"95 % interval {interval(score)}, {examples}"
    return f"Test {metric_label(name)} {percent(score['value'])} ({bounds})."


def _short(named: str) -> str:
    """Returns "csv:/home/ada/reviews.csv" as "csv:reviews.csv": whoever asks need not know where.

    What follows the name, as of "Arrays(...)", is a size and not for this page either.
    """
    kind, colon, name = named.partition(":")
    if not colon or "(" in kind:
        return named.partition("(")[0]
    return f"{kind}:{name.rstrip('/').rpartition('/')[2]}"
