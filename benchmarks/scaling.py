"""How many examples a second several processes train, and where the time goes.

    python benchmarks/scaling.py

Writes results/scaling.json. Each number of processes is run with each of them pinned to one core
and computing in one thread, on the same batches: those of 32 images, of which each process computes
its part. So as many times the examples a second as there are cores is the most there can be. The
seconds in which the processes add up gradients are those of the sum alone, timed by itself.

What more devices would do is predicted, not measured: see scaling_cost.py.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags
from scaling_cost import ALL, HEAD, MACHINES, TOP, predictions
from written import write_results

from sft_keras import Arrays, Backbone, Data, Recipe, Stage
from sft_keras.cache.feature_cache import FeatureCache, StageInput
from sft_keras.core.reporter import SILENT
from sft_keras.distributed.cluster import cluster_from_tf_config
from sft_keras.distributed.devices import Devices
from sft_keras.distributed.factory import create_devices
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.pipeline.open_run import open_run
from sft_keras.pipeline.options import RunOptions
from sft_keras.recipe.loader import load_recipe
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks import ImageClassification
from sft_keras.training.experiment import Experiment
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.step import Steps

_PROCESSES = flags.DEFINE_list("processes", ["1", "2", "4"], "How many, by turns.")
_STEPS = flags.DEFINE_integer("steps", 12, "Steps that are timed, of each stage.", lower_bound=1)
_TINY = flags.DEFINE_bool("tiny", False, "Try it on a small network; write nothing.")
_CORE = flags.DEFINE_integer("core", None, "The core of this process. Set by the program.")

IMAGES, CLASSES, BATCH_SIZE = 128, 5, 32
ON_A_DEVICE = 32  # examples, for the predictions
_WARM = 3  # steps, of which the first is traced


def recipe() -> Recipe:
    """Returns a staged run with random weights and random images."""
    draw = np.random.default_rng(0)
    size, preset = (32, "keras:mobilenet") if _TINY.value else (96, "keras:resnet50")

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        pixels = draw.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return pixels, np.arange(count) % CLASSES

    return Recipe(
        task=ImageClassification(),
        data=Data(
            source=Arrays(train=images(IMAGES), validation=images(32), test=images(32)),
            batch_size=BATCH_SIZE,
        ),
        backbone=Backbone(preset=preset, weights=None, image_size=(size, size)),
        stages=(HEAD, TOP, ALL),
        cache="memory",
    )


def one_of_them() -> dict[str, Any]:
    """Trains as one of the processes; returns the seconds of each part."""
    os.sched_setaffinity(0, {_CORE.value})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cluster = cluster_from_tf_config(os.environ)
    loaded = load_recipe(recipe(), [])
    devices = create_devices("auto", cluster, loaded, resume=False, timeout=300.0, reporter=SILENT)
    with tempfile.TemporaryDirectory() as folder, configured_keras(loaded.recipe):
        run = RunFolder.create("scaling", Path(folder, "run"), overwrite=False)
        opened = open_run(loaded.recipe, run, devices, RunOptions()).experiment
        store = FeatureCache(
            opened.staged,
            loaded.recipe,
            opened.prepared,
            opened.info,
            reporter=SILENT,
            devices=devices,
        )
        began = time.perf_counter()
        store.input_of(HEAD)
        found: dict[str, Any] = {"frozen blocks": {"seconds": time.perf_counter() - began}}
        for stage in loaded.recipe.stages:
            found[stage.name] = _timed(stage, store.input_of(stage), opened, loaded.recipe, devices)
        devices.barrier()
    return found


def _timed(
    stage: Stage, source: StageInput, opened: Experiment, plan: Recipe, devices: Devices
) -> dict[str, Any]:
    """Returns the median seconds of a stage's steps, and of the sums over processes in them."""
    loss, metrics = plan.task.loss(stage), plan.task.training_metrics()
    model = prepare_stage(opened.staged, stage, 1000, loss, metrics, source.from_boundary)
    batches = plan.task.training_batches(source.prepared["train"], plan, stage, opened.info, 0)
    steps = Steps(
        model,
        loss,
        metrics,
        batch=batches.element_spec,
        validation_batch=batches.element_spec,
        devices=devices,
    )
    values = [tf.zeros(each.shape) for each in model.trainable_variables]
    exchange = tf.function(lambda: devices.run(devices.all_reduce, values), autograph=False)
    taken = iter(batches)
    return {
        "step_seconds": _median(lambda: steps.train(next(taken)).numpy(), devices),
        "exchange_seconds": _median(lambda: [each.numpy() for each in exchange()], devices),
        "bytes": sum(4 * int(np.prod(each.shape)) for each in values),
        "is_stored": source.from_boundary,
    }


def _median(step: Callable[[], Any], devices: Devices) -> float:
    for _ in range(_WARM):
        step()
    devices.barrier()
    seconds = []
    for _ in range(_STEPS.value):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def together(count: int) -> dict[str, Any]:
    """Runs so many processes; returns what the first has found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    started = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = [
            sys.executable,
            __file__,
            f"--core={index % os.cpu_count()}",
            f"--steps={_STEPS.value}",
            f"--tiny={_TINY.value}",
        ]
        started.append(
            subprocess.Popen(
                command,
                env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [each.communicate() for each in started]
    for each, (_, error) in zip(started, said):
        if each.returncode:
            sys.exit(f"One of {count} processes failed. Its last words:\n{error[-4000:]}")
    return json.loads(said[0][0].splitlines()[-1])


def main(_: list[str]) -> None:
    """Runs each number of processes, predicts, prints and writes."""
    if _CORE.value is not None:
        print(json.dumps(one_of_them()))
        return
    measured = {}
    for count in map(int, _PROCESSES.value):
        measured[count] = together(count)
        for name, found in measured[count].items():
            shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
            print(f"{count} processes  {name}: {shown}", flush=True)
    if _TINY.value:
        return
    predicted = predictions(ON_A_DEVICE)
    for row in predicted:
        print(
            f"prediction  {row['network']}, {row['stage']}: {row['bytes'] / 1e6:.2f} MB a step; "
            + ", ".join(f"{ratio:.1f} x on {what}" for what, ratio in row["speed_ups"].items())
        )
    figures = {
        "what": f"ResNet50, 96 px, random weights, batches of {BATCH_SIZE} images",
        "batch_size": BATCH_SIZE,
        "examples_of_frozen_blocks": IMAGES + 32,
        "measured": measured,
        "predicted": {
            "examples_on_a_device": ON_A_DEVICE,
            "machines": [vars(machine) for machine in MACHINES],
            "stages": predicted,
        },
    }
    write_results("scaling", "python benchmarks/scaling.py", figures)


if __name__ == "__main__":
    app.run(main)
