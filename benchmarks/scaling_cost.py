"""Cost model of data-parallel training: computation plus all-reduce of the gradients.

The speed-ups are predictions for the hardware assumed in `MACHINES`; none were measured on it.

    compute    = FLOPs per example x examples per device / FLOPs per second
    all-reduce = 2 (n - 1) / n x bytes of gradients / bandwidth + 2 (n - 1) x latency

The second is a ring all-reduce of n devices (Patarasuk & Yuan 2009). The two are added up, which is
the worst case: TensorFlow reduces the gradients of the last layers while it computes those of the
first.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.profiler.model_analyzer import profile
from tensorflow.python.profiler.option_builder import ProfileOptionBuilder

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.data.examples import DataInfo
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.tasks import ImageClassification, TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.freezing import set_trainable
from sft_keras.training.setup import build_staged

CLASSES, TOKENS = 5, 128
_PASSES = 3  # forward, and backward with respect to the inputs and the weights of each layer
HEAD = Stage(name="head", epochs=1, learning_rate=1e-3)
TOP = Stage(name="top", epochs=1, learning_rate=1e-5, unfreeze=1)
ALL = Stage(name="all layers", epochs=1, learning_rate=1e-5, unfreeze="all")
_BERT_BASE = {
    "vocabulary_size": 30522,
    "num_layers": 12,
    "num_heads": 12,
    "hidden_dim": 768,
    "intermediate_dim": 3072,
    "max_sequence_length": 512,
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """An assumed set of devices that train together.

    Attributes:
      what: Description.
      devices: Number of devices.
      flops: FLOPs per second of one device.
      bandwidth: Bytes per second between two neighbours.
      latency: Seconds per message.
    """

    what: str
    devices: int
    flops: float
    bandwidth: float
    latency: float


# A third of the 312 TFLOP/s in bfloat16 on the data sheet of an A100.
_FLOPS = 1e14
MACHINES = (
    Machine("8 GPUs in one machine, 200 GB/s interconnect", 8, _FLOPS, 2e11, 1e-5),
    Machine("32 machines with one such GPU each, 25 Gbit/s network", 32, _FLOPS, 3e9, 5e-5),
)
NETWORKS = {
    "VGG16, 224 px": (ImageClassification(), Backbone(preset="keras:vgg16", weights=None)),
    "ResNet50, 224 px": (ImageClassification(), Backbone(preset="keras:resnet50", weights=None)),
    f"BERT base, {TOKENS} tokens": (
        TextClassification(sequence_length=TOKENS),
        Backbone(preset="tiny:bert", weights=None, arguments=_BERT_BASE),
    ),
}


def exchange_seconds(size: int, devices: int, bandwidth: float, latency: float) -> float:
    """Return the seconds of a ring all-reduce of `size` bytes per device."""
    if devices == 1:
        return 0.0
    return 2 * (devices - 1) / devices * size / bandwidth + 2 * (devices - 1) * latency


def predictions(examples: int) -> list[dict[str, Any]]:
    """Return the cost of each stage of each network with `examples` examples per device."""
    rows = []
    for name, (task, backbone) in NETWORKS.items():
        keras.backend.clear_session()
        for stage, size, flops in _stages(task, backbone):
            speed_ups = {}
            for machine in MACHINES:
                compute = flops * examples / machine.flops
                exchange = exchange_seconds(
                    size, machine.devices, machine.bandwidth, machine.latency
                )
                speed_ups[machine.what] = machine.devices * compute / (compute + exchange)
            rows.append(
                {
                    "network": name,
                    "stage": stage.name,
                    "bytes": size,
                    "flops_per_example": flops,
                    "speed_ups": speed_ups,
                }
            )
    return rows


def _stages(task: TaskConfig, backbone: Backbone) -> list[tuple[Stage, int, float]]:
    """Return each stage with the bytes of its gradients and the FLOPs per example."""
    recipe = Recipe(
        task=task, data=Data(source="folder:none"), backbone=backbone, stages=(HEAD, TOP, ALL)
    )
    names = tuple(map(str, range(CLASSES)))
    info = DataInfo("none", names, {"train": 1}, {"train": (1,) * CLASSES}, {})
    built = build_task(recipe).build_backbone()
    staged = build_staged(recipe, built, info)
    stages = []
    for stage in recipe.stages:
        set_trainable(staged, stage)
        is_cached = stage.unfreeze != "all"
        model = staged.suffix_model(stage.unfreeze) if is_cached else staged.stage_model("all")
        size = sum(4 * int(tf.size(variable.value)) for variable in model.trainable_variables)
        stages.append((stage, size, _flops(model)))
    return stages


def _flops(model: keras.Model) -> float:
    """Return the FLOPs of a training step on one example."""

    def shape(tensor: keras.KerasTensor) -> tf.TensorSpec:
        sizes = [TOKENS if size is None else size for size in tensor.shape[1:]]
        return tf.TensorSpec([1, *sizes], tensor.dtype)

    forward = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    graph = forward.get_concrete_function(keras.tree.map_structure(shape, model.input)).graph
    options = ProfileOptionBuilder(ProfileOptionBuilder.float_operation()).with_empty_output()
    return _PASSES * float(profile(graph, options=options.build()).total_float_ops)
