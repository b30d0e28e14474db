"""Finished runs in every format that their task has, each beside the trained model.

    python benchmarks/exports.py --runs=runs/quickstart,runs/mobilenet_flowers,runs/bert_sentiment

Writes results/exports.json. Files in integers are kept for the table whatever they lose; by default
`python -m sft_keras.export` refuses those that lose too much.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import app, flags
from written import write_results

from sft_keras.export.export import LARGEST_LOSS, export_run
from sft_keras.export.finished_run import read_run
from sft_keras.export.formats import FORMATS

_RUNS = flags.DEFINE_list("runs", None, "The folders of finished runs.", required=True)

_MEASURED = ("format", "bytes", "largest_difference", "agreement", "examples", "milliseconds")


def measured(run: str) -> dict[str, Any]:
    """Exports a run and returns what came of it."""
    recipe = read_run(run).recipe
    formats = [
        name
        for name, each in FORMATS.items()
        if recipe.task.export_limitation(each.is_quantized) is None
    ]
    facts = export_run(run, formats, accept_loss=True)
    (name,) = {row["score"]["name"] for row in facts["rows"]}
    return {
        "backbone": Path(recipe.backbone.preset.partition(":")[2]).name,
        "score": name,
        "trained": facts["rows"][0]["score"]["trained"],
        "rows": [
            {
                **{key: row[key] for key in _MEASURED},
                "score": row["score"]["exported"],
                "validation": row.get("validation"),
            }
            for row in facts["rows"]
        ],
    }


def main(_: list[str]) -> None:
    """Exports the runs and writes the figures."""
    runs = {Path(run).name: measured(run) for run in _RUNS.value}
    write_results(
        "exports",
        "python benchmarks/exports.py --runs=...",
        {"largest_loss": LARGEST_LOSS, "runs": runs},
    )


if __name__ == "__main__":
    app.run(main)
