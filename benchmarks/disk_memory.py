"""Peak memory of a run with the cached features of 100,000 examples on disk.

    python benchmarks/disk_memory.py [--examples=100000] [--folder=FOLDER]

Writes results/disk_memory.json. A convolution computes 7 x 7 x 512 features per image, as many as
the last pooling layer of VGG16 at 224 px: 100 kB per example, 10 GB in total, several times the
memory limit. They are computed, written, verified and trained on for one epoch. The result is the
peak resident set size of the process minus its size once model and images were in memory.
"""

from __future__ import annotations

import dataclasses
import re
import resource
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import psutil
from absl import app, flags
from results_file import write_results

from sft_keras import Arrays, Backbone, Data, Recipe, Stage, Store
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks import ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.experiment import Experiment
from sft_keras.training.setup import build_staged
from sft_keras.training.trainer import train_stages
from sft_keras.vision.sources.open import open_data

_EXAMPLES = flags.DEFINE_integer("examples", 100_000, "Number of images in all splits together.")
_FOLDER = flags.DEFINE_string(
    "folder",
    None,
    "Parent folder of the cache files; the default is the system's temporary folder.",
)

SIDE, CHANNELS, CLASSES = 14, 512, 5
MEMORY_LIMIT = 2 * 2**30  # bytes on top of the model
_MAXRSS_UNIT = 1024  # bytes; ru_maxrss is in kilobytes on Linux


def build_backbone() -> BuiltBackbone:
    """Return a single convolution with a large output: cheap to compute, large to store."""
    inputs = keras.Input((SIDE, SIDE, 3))
    outputs = keras.layers.Conv2D(CHANNELS, 2, strides=2, name="block1_conv")(inputs)
    model = keras.Model(inputs, outputs)
    scale = keras.layers.Rescaling(1 / 127.5, -1.0)
    return BuiltBackbone(model, find_blocks(model, re.compile(r"(block\d)_")), (scale,))


def main(_: list[str]) -> None:
    """Cache the features, train on them and write the results."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_EXAMPLES.value, SIDE, SIDE, 3), np.uint8)
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        recipe = Recipe(
            task=ImageClassification(),
            data=Data(source=Arrays(train=(images, np.arange(len(images)) % CLASSES))),
            backbone=Backbone(preset="keras:vgg16"),
            stages=(Stage(name="head", epochs=1, learning_rate=1e-3),),
            cache="disk",
            store=Store(folder=f"{folder}/rows", batch_size=256),
        )
        backbone = dataclasses.replace(recipe.backbone, image_size=(SIDE, SIDE))
        recipe = dataclasses.replace(recipe, backbone=backbone)
        with configured_keras(recipe):
            splits = open_data(recipe.data, recipe.seed)
            prepared = build_task(recipe, splits.info).preprocessor.preprocess(
                splits, lambda done, total: None
            )
            staged = build_staged(recipe, build_backbone(), splits.info)
            baseline = psutil.Process().memory_info().rss
            start = time.perf_counter()
            run = RunFolder.create("run", f"{folder}/run", overwrite=False)
            (stage,) = train_stages(Experiment(recipe, staged, prepared, splits.info, run))
            seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder, "rows").rglob("rows"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    results = {
        "examples": _EXAMPLES.value,
        "bytes_on_disk": size,
        "bytes_before": baseline,
        "bytes_at_most": peak,
        "bytes_above": peak - baseline,
        "at_most": MEMORY_LIMIT,
        "met": peak - baseline < MEMORY_LIMIT,
        "seconds": seconds,
        "frozen_blocks": stage["frozen_blocks"],
    }
    write_results("disk_memory", "python benchmarks/disk_memory.py", results)
    print(
        f"{size / 2**30:.1f} GB on disk, "
        f"{(peak - baseline) / 2**20:.0f} MB of memory on top of the model"
    )


if __name__ == "__main__":
    app.run(main)
