"""MobileNet on tf_flowers: head only, head and top blocks, and random weights, 3 seeds each.

    python benchmarks/mobilenet_flowers.py [--weights=FILE]

Writes results/mobilenet_flowers.json. Needs MobileNet's ImageNet weights and tf_flowers
(TFDS_DATA_DIR), or a network connection. The head-only variant trains for as many epochs as head
and top together. The seed also determines the split, so all variants use the same three splits.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from results_file import write_results

import sft_keras
from sft_keras import Recipe, Stage
from sft_keras.recipe.loader import load_recipe

_WEIGHTS = flags.DEFINE_string(
    "weights",
    "imagenet",
    "A file of MobileNet's ImageNet weights without top, or imagenet to download them.",
)

SEEDS = (0, 1, 2)
SCRATCH_EPOCHS = 8  # one takes several times as long as an epoch of the top stage
# Small batches for more updates: with momentum 0.99, BatchNormalization statistics need several
# hundred updates before validation metrics are meaningful.
SCRATCH_BATCH_SIZE = 8
OVERRIDES = ("data.test=0.2",)  # a tenth of a small part of tf_flowers would be too few for a test


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipe and the variants it is compared with, by name."""
    head, top = recipe.stages
    replace = dataclasses.replace
    scratch = Stage(
        name="all",
        epochs=SCRATCH_EPOCHS,
        learning_rate=1e-3,
        schedule="cosine",
        warmup=0.1,
        unfreeze="all",
        train_batch_norm=True,
    )
    longer = replace(head, epochs=head.epochs + top.epochs)
    return {
        "random weights, all layers trained": replace(
            recipe,
            data=replace(recipe.data, batch_size=SCRATCH_BATCH_SIZE),
            backbone=replace(recipe.backbone, weights=None),
            stages=(scratch,),
        ),
        "head only, frozen backbone": replace(recipe, stages=(longer,)),
        "head, then the top blocks": recipe,
    }


def overrides(seed: int) -> list[str]:
    """Return the overrides of the recipe."""
    return [*OVERRIDES, f"backbone.weights={_WEIGHTS.value}", f"seed={seed}"]


def main(_: list[str]) -> None:
    """Run every variant with every seed and write the results."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        recipe = load_recipe("mobilenet_flowers", overrides(seed)).recipe
        for name, variant in variants(recipe).items():
            with tempfile.TemporaryDirectory() as folder:
                result = sft_keras.finetune(variant, run_dir=Path(folder, "run"))
            stages = result.report["stages"]
            accuracy = result.metrics["accuracy"]["value"]
            print(f"== seed {seed}, {name}: {accuracy:.4f}", flush=True)
            runs.setdefault(name, []).append(
                {
                    "seed": seed,
                    "test_accuracy": accuracy,
                    "test_macro_f1": result.metrics["macro"]["f1"],
                    "validation_accuracy": stages[-1]["validation"]["accuracy"]["value"],
                    "epochs": [stage["epochs_run"] for stage in stages],
                }
            )
    sizes = result.report["data"]["sizes"]
    summary = {
        "data": f"{sum(sizes.values())} photos of tf_flowers: "
        + ", ".join(f"{size} {name}" for name, size in sizes.items()),
        "overrides": list(OVERRIDES),
        "variants": [
            {
                "name": name,
                "test_accuracy_mean": float(
                    np.mean([run["test_accuracy"] for run in variant_runs])
                ),
                "test_accuracy_range": [
                    min(run["test_accuracy"] for run in variant_runs),
                    max(run["test_accuracy"] for run in variant_runs),
                ],
                "runs": variant_runs,
            }
            for name, variant_runs in runs.items()
        ],
    }
    write_results("mobilenet_flowers", "python benchmarks/mobilenet_flowers.py", summary)


if __name__ == "__main__":
    app.run(main)
