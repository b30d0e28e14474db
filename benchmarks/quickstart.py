"""Test accuracy and run time of the quickstart recipe with three seeds.

    python benchmarks/quickstart.py

Writes results/quickstart.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from absl import app
from results_file import write_results

import sft_keras

SEEDS = (0, 1, 2)


def main(_: list[str]) -> None:
    """Run the recipe with every seed and write the results."""
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            result = sft_keras.finetune(
                "quickstart", overrides=[f"seed={seed}"], run_dir=Path(folder, "run")
            )
        after_head, after_top = (
            stage["validation"]["accuracy"]["value"] for stage in result.report["stages"]
        )
        runs.append(
            {
                "seed": seed,
                "test_accuracy": result.metrics["accuracy"]["value"],
                "validation_accuracy_after_head": after_head,
                "validation_accuracy_after_top": after_top,
                "seconds": result.report["seconds"],
            }
        )
    summary = {
        "test_accuracy_mean": float(np.mean([run["test_accuracy"] for run in runs])),
        "test_accuracy_range": [
            min(run["test_accuracy"] for run in runs),
            max(run["test_accuracy"] for run in runs),
        ],
        "total_seconds_median": float(np.median([run["seconds"]["total"] for run in runs])),
        "runs": runs,
    }
    write_results("quickstart", "python benchmarks/quickstart.py", summary)


if __name__ == "__main__":
    app.run(main)
