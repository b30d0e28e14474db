"""Size, accuracy and latency of finished runs in every export format of their task.

    python benchmarks/exports.py --runs=runs/quickstart,runs/mobilenet_flowers,runs/bert_sentiment

Writes results/exports.json. Each file is compared with the trained model. Quantized files are kept
for the table even if their validation score drops by more than the limit; by default
`python -m sft_keras.export` rejects them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import app, flags
from results_file import write_results

from sft_keras.export.export import LARGEST_LOSS, export_run
from sft_keras.export.finished_run import read_run
from sft_keras.export.formats import FORMATS

_RUNS = flags.DEFINE_list("runs", None, "Folders of finished runs.", required=True)

_RECORDED = ("format", "bytes", "largest_difference", "agreement", "examples", "milliseconds")


def measure(run: str) -> dict[str, Any]:
    """Export a run to all formats and return the measurements of each."""
    recipe = read_run(run).recipe
    formats = [
        name
        for name, target in FORMATS.items()
        if recipe.task.export_limitation(target.is_quantized) is None
    ]
    manifest = export_run(run, formats, accept_loss=True)
    (score,) = {row["score"]["name"] for row in manifest["rows"]}
    return {
        "backbone": Path(recipe.backbone.preset.partition(":")[2]).name,
        "score": score,
        "trained": manifest["rows"][0]["score"]["trained"],
        "rows": [
            {
                **{key: row[key] for key in _RECORDED},
                "score": row["score"]["exported"],
                "validation": row.get("validation"),
            }
            for row in manifest["rows"]
        ],
    }


def main(_: list[str]) -> None:
    """Export the runs and write the results."""
    runs = {Path(run).name: measure(run) for run in _RUNS.value}
    write_results(
        "exports",
        "python benchmarks/exports.py --runs=...",
        {"largest_loss": LARGEST_LOSS, "runs": runs},
    )


if __name__ == "__main__":
    app.run(main)
