"""Traces each program of a plan under TensorFlow's own TPUStrategy, with no TPU there.

    python tpu_tracing.py PLAN FOLDER PRESET

The strategy is told of two cores, and finds parts of the CPU in their place: variables can be made
there and graphs traced, which are what a TPU would be given; none is run. The last line printed is
a list: of each program the function, how often operations of TPUs occur in it, and those whose
shape is not known.
"""

import collections
import dataclasses
import json
import os
import sys
import types
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
CORES = 2
DEVICE = "/job:localhost/replica:0/task:0/device"
OF_TPUS = ("TPUReplicateMetadata", "CrossReplicaSum", "TPUReplicatedOutput")
# XLA knows what it gives, which no shape shows.
_FOLDED = "BroadcastGradientArgs"


class Traced(Exception):
    """A program has been traced, and what comes after would need its outputs."""


def strategy_without_tpu():
    import numpy as np
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * CORES
    tf.config.set_logical_device_configuration(cpu, parts)
    cores = [types.SimpleNamespace(name=f"{DEVICE}:TPU:{number}") for number in range(CORES)]
    counts = {"num_hosts": 1, "num_cores": CORES, "num_of_cores_per_host": CORES}
    system = types.SimpleNamespace(devices=cores, **counts)
    resolver = types.SimpleNamespace(
        task_type="worker", task_id=0, get_tpu_system_metadata=lambda: system
    )
    strategy = tf.distribute.TPUStrategy(resolver)
    names = [[f"{DEVICE}:CPU:{number}"] for number in range(CORES)]
    strategy.extended._tpu_devices = np.array(names, dtype=object)
    return strategy


def main(name, folder, preset):
    import plans

    strategy = strategy_without_tpu()

    from sft_keras.cache.feature_cache import FeatureCache
    from sft_keras.core.reporter import CONSOLE
    from sft_keras.distributed.keras_setup import configured_keras
    from sft_keras.distributed.tpu import XlaReplicas
    from sft_keras.pipeline.open_run import open_run
    from sft_keras.pipeline.options import RunOptions
    from sft_keras.runs.folder import RunFolder
    from sft_keras.training.freezing import trained_batch_norms
    from sft_keras.training.prepare import prepare_stage
    from sft_keras.training.step import Steps

    found = []

    class Tracing(XlaReplicas):
        def trace(self, function, signature, jit_compile=False):
            graph = super().trace(function, signature, jit_compile)

            def call(*arguments):
                made = graph.get_concrete_function(*arguments).graph.get_operations()
                counts = collections.Counter(each.type for each in made)
                unknown = [
                    f"{each.type} {each.name}"
                    for each in made
                    if each.type != _FOLDED
                    and not all(output.shape.is_fully_defined() for output in each.outputs)
                ]
                own = {kind: counts[kind] for kind in OF_TPUS}
                found.append({"program": function.__qualname__, **own, "unknown": unknown})
                raise Traced

            return call

    def trace(compute, *arguments):
        try:
            compute(*arguments)
        except Traced:
            return
        raise AssertionError("nothing was traced")

    recipe = plans.plan(name, preset)
    task = dataclasses.replace(recipe.task, dropout=0.3)  # random states change in programs too
    recipe = dataclasses.replace(recipe, task=task, precision="mixed_bfloat16")
    devices = Tracing(strategy, recipe.data.batch_size)
    with configured_keras(recipe, devices):
        run = RunFolder.create("traced", Path(folder, "run"), overwrite=False)
        experiment = open_run(recipe, run, devices, RunOptions()).experiment
        staged, prepared, info = experiment.staged, experiment.prepared, experiment.info
        task = experiment.task
        if recipe.cache != "off":
            store = FeatureCache(staged, recipe, prepared, info, reporter=CONSOLE, devices=devices)
            trace(store.input_of, recipe.stages[0])
        validation = task.batches.evaluation(prepared["validation"])
        for stage in recipe.stages:
            loss = task.objective.loss(stage)
            with devices.scope():
                metrics, watches = task.objective.metrics(), task.objective.output_monitors()
                model = prepare_stage(staged, stage, 10, loss, metrics)
            devices.prepare_optimizer(model.optimizer)
            training = task.batches.training(prepared["train"], stage)
            steps = Steps(
                model,
                loss,
                metrics,
                batch=training.element_spec,
                validation_batch=validation.element_spec,
                output_monitors=watches,
                devices=devices,
            )
            with devices.sync_batch_norm(trained_batch_norms(staged, stage)):
                trace(steps.train, next(iter(training)))
                trace(steps.validate, validation)
            trace(task.evaluator.predict, model, validation, devices)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:4])
