"""Training throughput of several worker processes, and how much of a step is all-reduce.

    python benchmarks/scaling.py

Writes results/scaling.json. For each number of processes, every process is pinned to one core and
computes in one thread. All runs train on the same batches of 32 images, sharded over the processes,
so the speed-up is at most the number of cores. The all-reduce of the gradients is timed separately,
outside the training step.

Speed-ups on more devices are predicted, not measured, by scaling_cost.py.
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
from results_file import write_results
from scaling_cost import ALL, HEAD, MACHINES, TOP, predictions

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

_PROCESSES = flags.DEFINE_list("processes", ["1", "2", "4"], "Numbers of processes to measure.")
_STEPS = flags.DEFINE_integer("steps", 12, "Timed steps per stage.", lower_bound=1)
_TINY = flags.DEFINE_bool("tiny", False, "Trial run on a small network; write nothing.")
_CORE = flags.DEFINE_integer("core", None, "Internal: CPU core of this worker process.")

IMAGES, CLASSES, BATCH_SIZE = 128, 5, 32
EXAMPLES_PER_DEVICE = 32  # for the predictions
_WARMUP_STEPS = 3  # the first traces the graph


def recipe() -> Recipe:
    """Return the recipe of a staged run with random weights on random images."""
    rng = np.random.default_rng(0)
    size, preset = (32, "keras:mobilenet") if _TINY.value else (96, "keras:resnet50")

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
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


def run_worker() -> dict[str, Any]:
    """Train as one of the worker processes and return the timings per stage."""
    os.sched_setaffinity(0, {_CORE.value})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cluster = cluster_from_tf_config(os.environ)
    loaded = load_recipe(recipe(), [])
    devices = create_devices("auto", cluster, loaded, resume=False, timeout=300.0, reporter=SILENT)
    with tempfile.TemporaryDirectory() as folder, configured_keras(loaded.recipe):
        run = RunFolder.create("scaling", Path(folder, "run"), overwrite=False)
        experiment = open_run(loaded.recipe, run, devices, RunOptions()).experiment
        cache = FeatureCache(
            experiment.staged,
            experiment.recipe,
            experiment.prepared,
            experiment.info,
            reporter=SILENT,
            devices=devices,
        )
        start = time.perf_counter()
        cache.input_of(HEAD)
        timings: dict[str, Any] = {"frozen blocks": {"seconds": time.perf_counter() - start}}
        for stage in loaded.recipe.stages:
            timings[stage.name] = _time_stage(stage, cache.input_of(stage), experiment, devices)
        devices.barrier()
    return timings


def _time_stage(
    stage: Stage, source: StageInput, experiment: Experiment, devices: Devices
) -> dict[str, Any]:
    """Return the median seconds of a stage's training step and of its all-reduce alone."""
    task = experiment.task
    loss, metrics = task.objective.loss(stage), task.objective.metrics()
    model = prepare_stage(experiment.staged, stage, 1000, loss, metrics, source.from_boundary)
    batches = task.batches.training(source.prepared["train"], stage)
    steps = Steps(
        model,
        loss,
        metrics,
        batch=batches.element_spec,
        validation_batch=batches.element_spec,
        devices=devices,
    )
    gradients = [tf.zeros(variable.shape) for variable in model.trainable_variables]
    exchange = tf.function(lambda: devices.run(devices.all_reduce, gradients), autograph=False)
    iterator = iter(batches)
    return {
        "step_seconds": _median_seconds(lambda: steps.train(next(iterator)).numpy(), devices),
        "exchange_seconds": _median_seconds(
            lambda: [total.numpy() for total in exchange()], devices
        ),
        "bytes": sum(4 * int(np.prod(gradient.shape)) for gradient in gradients),
        "is_stored": source.from_boundary,
    }


def _median_seconds(step: Callable[[], Any], devices: Devices) -> float:
    for _ in range(_WARMUP_STEPS):
        step()
    devices.barrier()
    seconds = []
    for _ in range(_STEPS.value):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run_workers(count: int) -> dict[str, Any]:
    """Train with `count` worker processes and return the timings of the first."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    workers = []
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
        workers.append(
            subprocess.Popen(
                command,
                env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [worker.communicate() for worker in workers]
    for worker, (_, errors) in zip(workers, outputs):
        if worker.returncode:
            sys.exit(f"One of {count} workers failed. The end of its output:\n{errors[-4000:]}")
    return json.loads(outputs[0][0].splitlines()[-1])


def main(_: list[str]) -> None:
    """Measure each number of processes, predict, print, and write the results."""
    if _CORE.value is not None:
        print(json.dumps(run_worker()))
        return
    measured = {}
    for count in map(int, _PROCESSES.value):
        measured[count] = run_workers(count)
        for name, timing in measured[count].items():
            shown = ", ".join(f"{key} {value:.4g}" for key, value in timing.items())
            print(f"{count} processes  {name}: {shown}", flush=True)
    if _TINY.value:
        return
    predicted = predictions(EXAMPLES_PER_DEVICE)
    for row in predicted:
        print(
            f"prediction  {row['network']}, {row['stage']}: {row['bytes'] / 1e6:.2f} MB per step; "
            + ", ".join(f"{ratio:.1f} x on {what}" for what, ratio in row["speed_ups"].items())
        )
    results = {
        "what": f"ResNet50, 96 px, random weights, batches of {BATCH_SIZE} images",
        "batch_size": BATCH_SIZE,
        "examples_of_frozen_blocks": IMAGES + 32,
        "measured": measured,
        "predicted": {
            "examples_on_a_device": EXAMPLES_PER_DEVICE,
            "machines": [vars(machine) for machine in MACHINES],
            "stages": predicted,
        },
    }
    write_results("scaling", "python benchmarks/scaling.py", results)


if __name__ == "__main__":
    app.run(main)
