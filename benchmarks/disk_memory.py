"""How much memory a run takes whose 100,000 boundary outputs lie on disk.

    python benchmarks/disk_memory.py [--examples=100000] [--folder=FOLDER]

Writes results/disk_memory.json. A convolution makes 7 x 7 x 512 numbers of each image, as the last
pooling of VGG16 does at 224 px: 100 kB an example, 10 GB in all, several times what may be in
memory. They are computed, written, checked and trained on for an epoch. What is measured is the
largest resident set of the process, less what it was when model and images were there.
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
from written import write_results

from sft_keras import Arrays, Backbone, Data, Recipe, Stage, Store
from sft_keras.backbones.blocks import BuiltBackbone, find_blocks
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks import ImageClassification
from sft_keras.training.experiment import Experiment
from sft_keras.training.setup import build_staged
from sft_keras.training.trainer import train_stages
from sft_keras.vision.sources.open import open_data

_EXAMPLES = flags.DEFINE_integer("examples", 100_000, "Images, validation and test included.")
_FOLDER = flags.DEFINE_string("folder", None, "Where to write the rows; a temporary one if none.")

SIDE, CHANNELS, CLASSES = 14, 512, 5
MOST = 2 * 2**30  # bytes above the model
_UNIT = 1024  # of ru_maxrss, in bytes, on Linux


def build_backbone() -> BuiltBackbone:
    """Returns one convolution with a large output: what is measured is storing it."""
    inputs = keras.Input((SIDE, SIDE, 3))
    outputs = keras.layers.Conv2D(CHANNELS, 2, strides=2, name="block1_conv")(inputs)
    model = keras.Model(inputs, outputs)
    scale = keras.layers.Rescaling(1 / 127.5, -1.0)
    return BuiltBackbone(model, find_blocks(model, re.compile(r"(block\d)_")), (scale,))


def main(_: list[str]) -> None:
    """Stores, trains, and writes the figures."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (_EXAMPLES.value, SIDE, SIDE, 3), np.uint8)
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
            prepared = recipe.task.preprocess(splits, recipe, lambda done, total: None)
            staged = build_staged(recipe, build_backbone(), splits.info)
            before = psutil.Process().memory_info().rss
            began = time.perf_counter()
            run = RunFolder.create("run", f"{folder}/run", overwrite=False)
            (stage,) = train_stages(Experiment(recipe, staged, prepared, splits.info, run))
            seconds = time.perf_counter() - began
        rows = sum(file.stat().st_size for file in Path(folder, "rows").rglob("rows"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    figures = {
        "examples": _EXAMPLES.value,
        "bytes_on_disk": rows,
        "bytes_before": before,
        "bytes_at_most": peak,
        "bytes_above": peak - before,
        "at_most": MOST,
        "met": peak - before < MOST,
        "seconds": seconds,
        "frozen_blocks": stage["frozen_blocks"],
    }
    write_results("disk_memory", "python benchmarks/disk_memory.py", figures)
    print(f"{rows / 2**30:.1f} GB on disk, {(peak - before) / 2**20:.0f} MB above the model")


if __name__ == "__main__":
    app.run(main)
