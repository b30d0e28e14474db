"""Puts finished runs side by side.

    python -m sft_keras.compare runs/quickstart runs/quickstart-2 [--output=compare.html]

Prints a table, and writes a page with the scores, how they came, and in what the recipes differ.
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

_OUTPUT = flags.DEFINE_string("output", "compare.html", "The page to write.")
_SPLITS = "splits.json"


def read_runs(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Returns the reports of finished runs, each with "run", its folder, and "test_ids".

    Raises:
      RunFolderError: If one is no finished run, or they have no score in common.
    """
    faults, found = [], []
    for path in map(Path, paths):
        folder = path.expanduser()
        try:
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
            splits = json.loads((folder / _SPLITS).read_text(encoding="utf-8"))
            found.append({**report, "run": str(path), "test_ids": splits["ids"]["test"]})
            for figures in (report["test"], report["stages"][-1]["validation"]):
                _ = figures[report["score"]]["value"]
        except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
            faults.append(f"{path} ({type(error).__name__}: {error})")
    if faults:
        raise RunFolderError(
            f"Runs must be folders of finished runs, with {REPORT} and {_SPLITS}. Received: "
            f"{'; '.join(faults)}."
        )
    scores = sorted({report["score"] for report in found})
    if len(scores) > 1:
        raise RunFolderError(
            "Runs can be compared that are judged by the same figure. Received: "
            f"{', '.join(scores)}."
        )
    return found


def main(argv: Sequence[str]) -> None:
    """Prints the table and writes the page."""
    if len(argv) < 3:
        raise RunFolderError("Say which runs: python -m sft_keras.compare RUN_FOLDER RUN_FOLDER...")
    runs = read_runs(argv[1:])
    from sft_keras.report.comparison_page import best_first, write_comparison  # matplotlib

    width = max(len(report["run"]) for report in runs)
    for report in best_first(runs):
        name = report["score"]
        validated, tested = report["stages"][-1]["validation"][name], report["test"][name]
        print(
            f"{report['run']:{width}}  validation {name} {validated['value']:.4f}  "
            f"test {tested['value']:.4f} ({tested['low']:.4f} to {tested['high']:.4f})  "
            f"{report['seconds']['total']:,.0f} s"
        )
    page = Path(_OUTPUT.value).expanduser()
    write_comparison(runs, page)
    print(f"page  {page}")


if __name__ == "__main__":
    run_command(main)
