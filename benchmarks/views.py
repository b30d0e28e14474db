"""Accuracy and time of training on a fixed number of cached augmented views, on tf_flowers.

    python benchmarks/views.py [--weights=FILE]

Writes results/views.json: MobileNet 0.75, head and top blocks, augmented with flips, crops,
rotation and colour; with 1, 4 and 16 cached views, with new augmentation every epoch, and without
augmentation, three seeds each on the same splits. Needs MobileNet's ImageNet weights and tf_flowers
(TFDS_DATA_DIR), or a network connection.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags
from results_file import write_results

from sft_keras import Store
from sft_keras.recipe.loader import LoadedRecipe, load_recipe
from sft_keras.sweeps.plan import plan_trials
from sft_keras.sweeps.run import run_trials
from sft_keras.tasks import Augment, ImageClassification

_WEIGHTS = flags.DEFINE_string(
    "weights", "imagenet", "A file of MobileNet's ImageNet weights without top, or imagenet."
)

SEEDS = 3
AUGMENT = Augment(flip=True, crop=0.2, rotation=0.05, brightness=0.2, contrast=0.2)
VIEWS = (1, 4, 16, None)


def variants(loaded: LoadedRecipe) -> dict[str, LoadedRecipe]:
    """Return the variants to compare, by name."""
    task: ImageClassification = loaded.recipe.task
    augmented = dataclasses.replace(loaded.recipe, task=dataclasses.replace(task, augment=AUGMENT))
    result = {"no augmentation": loaded}
    for views in VIEWS:
        name = (
            f"{views} cached view{'s' if views != 1 else ''}"
            if views
            else "new augmentation every epoch"
        )
        recipe = dataclasses.replace(augmented, store=Store(views=views))
        result[name] = dataclasses.replace(loaded, recipe=recipe)
    return result


def main(_: list[str]) -> None:
    """Run every variant with every seed and write the results."""
    overrides = ["data.test=0.2", f"backbone.weights={_WEIGHTS.value}"]
    loaded = load_recipe("mobilenet_flowers", overrides)
    rows: list[dict[str, Any]] = []
    for name, variant in variants(loaded).items():
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_trials(variant.recipe, seeds=SEEDS)
            (point,) = run_trials(variant, plan, run_dir=Path(folder, "run"))["points"]
        row = {"name": name, "scores": point["scores"]}
        row["seconds"] = [repeat["seconds"] for repeat in point["repeats"]]
        row["test"] = [repeat["scores"]["test"] for repeat in point["repeats"]]
        print(f"== {name}: test {point['scores']['test']['mean']:.4f}", flush=True)
        rows.append(row)
        results = {
            "overrides": overrides[:1],
            "augment": dataclasses.asdict(AUGMENT),
            "seeds": SEEDS,
            "variants": rows,
        }
        write_results("views", "python benchmarks/views.py", results)


if __name__ == "__main__":
    app.run(main)
