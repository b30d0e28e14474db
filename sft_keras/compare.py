"""Compare finished runs side by side.

    python -m sft_keras.compare runs/quickstart runs/quickstart-2 [--output=compare.html]

Prints a table and writes a page with scores, learning curves and the differences of the recipes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from sft_keras.cli.command import run_command
from sft_keras.core.errors import RunFolderError
from sft_keras.runs.folder import REPORT

_OUTPUT = flags.DEFINE_string("output", "compare.html", "Path of the HTML page to write.")
_SPLITS = "splits.json"


def read_runs(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the reports of finished runs, in the order of their folders.

    Args:
      paths: Run folders.

    Returns:
      The contents of each report.json, with "run" (the folder) and "test_ids" added.

    Raises:
      RunFolderError: If a folder holds no finished run, or the runs have different scores.
    """
    faults: list[str] = []
    reports: list[dict[str, Any]] = []
    for path in map(Path, paths):
        folder = path.expanduser()
        try:
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
            splits = json.loads((folder / _SPLITS).read_text(encoding="utf-8"))
            reports.append({**report, "run": str(path), "test_ids": splits["ids"]["test"]})
            for metrics in (report["test"], report["stages"][-1]["validation"]):
                _ = metrics[report["score"]]["value"]
        except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
            faults.append(f"{path} ({type(error).__name__}: {error})")
    if faults:
        raise RunFolderError(
            f"Arguments must be folders of finished runs, with {REPORT} and {_SPLITS}. Received: "
            f"{'; '.join(faults)}."
        )
    scores = sorted({report["score"] for report in reports})
    if len(scores) > 1:
        raise RunFolderError(
            f"Runs to compare must have the same score. Received: {', '.join(scores)}."
        )
    return reports


def main(argv: Sequence[str]) -> None:
    """Print the table and write the page."""
    if len(argv) < 3:
        raise RunFolderError(
            "Pass at least two runs: python -m sft_keras.compare RUN_FOLDER RUN_FOLDER..."
        )
    runs = read_runs(argv[1:])
    from sft_keras.report.comparison_page import best_first, write_comparison  # imports matplotlib

    width = max(len(report["run"]) for report in runs)
    for report in best_first(runs):
        name = report["score"]
        validation, test = report["stages"][-1]["validation"][name], report["test"][name]
        print(
            f"{report['run']:{width}}  validation {name} {validation['value']:.4f}  "
            f"test {test['value']:.4f} ({test['low']:.4f} to {test['high']:.4f})  "
            f"{report['seconds']['total']:,.0f} s"
        )
    page = Path(_OUTPUT.value).expanduser()
    write_comparison(runs, page)
    print(f"page  {page}")


if __name__ == "__main__":
    run_command(main)
