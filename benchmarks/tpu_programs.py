"""Compile every program of complete runs with the TPU compiler, for one core of a TPU.

    python benchmarks/tpu_programs.py --weights=FOLDER --compiler_python=PYTHON

Writes results/tpu_programs.json. No TPU is needed and nothing runs on one: the benchmark records
whether the TPU compiler accepts each program, how long it compiles on this machine, and how much
memory of a core the program needs. The runs themselves compute on the CPU, with the batch size of
one core; collectives between cores are not part of the programs.

FOLDER: a BERT saved with `save_pretrained`. PYTHON: the interpreter of an environment with jax and
libtpu (pip install jax libtpu), which this package does not need.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from results_file import write_results

import sft_keras
from sft_keras import Arrays, Backbone, Data, Recipe, Stage, Store, TaggedWords
from sft_keras.distributed import factory
from sft_keras.distributed.tpu import XlaReplicas
from sft_keras.tasks import ImageClassification, TokenClassification

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Folder of a BERT in Hugging Face format.", required=True
)
_COMPILER = flags.DEFINE_string(
    "compiler_python", None, "Python interpreter with jax and libtpu.", required=True
)
_TINY = flags.DEFINE_bool("tiny", False, "Trial run on a small network; write nothing.")

TOPOLOGY = "v5e:2x2"
EXAMPLES_PER_CORE = 32
_KINDS = {  # by the __qualname__ of the traced function
    "Steps._train_step": "training step",
    "Steps._test_step": "validation step",
    "_traced_prefix.<locals>.<lambda>": "frozen blocks",
    "Devices.make_predict_function.<locals>.<lambda>": "prediction",
}
STAGES = (
    Stage(name="head", epochs=1, learning_rate=1e-3),
    Stage(name="top", epochs=1, learning_rate=1e-4, unfreeze=1),
    Stage(name="all layers", epochs=1, learning_rate=1e-5, unfreeze="all", train_batch_norm=True),
)


class OneCore(XlaReplicas):
    """A stand-in for one TPU core that computes on the CPU and records every traced program.

    Attributes:
      programs: Description of each program: its stage, kind, input shape and file.
    """

    dtype_policy = "mixed_bfloat16"

    def __init__(self, batch_size: int, folder: Path) -> None:
        super().__init__(tf.distribute.OneDeviceStrategy("/cpu:0"), batch_size)
        self._folder, self._stage, self.programs = folder, -1, []

    def prepare_optimizer(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Count the stages: every stage prepares its optimizer once."""
        super().prepare_optimizer(optimizer)
        self._stage += 1

    def trace(
        self, function: Callable[..., Any], signature: Sequence[Any], jit_compile: bool = False
    ) -> Callable[..., Any]:
        """Return a traced function that records the program of every new shape."""
        graph = tf.function(function, autograph=False)
        program = tf.function(function, autograph=False, jit_compile=True)
        kind, recorded = _KINDS[function.__qualname__], set()

        def call(*arguments: Any) -> Any:
            shapes = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(arguments))
            if shapes not in recorded:
                recorded.add(shapes)
                self._record(kind, shapes[0], program, arguments)
            return graph(*arguments)

        return call

    def _record(
        self, kind: str, shape: tuple[int, ...], program: Any, arguments: Sequence[Any]
    ) -> None:
        hlo = program.experimental_get_compiler_ir(*arguments)(stage="hlo_serialized")
        file = self._folder / f"{len(self.programs):03d}.hlo"
        file.write_bytes(hlo)
        is_cache = kind == "frozen blocks"
        stage = "feature cache" if is_cache else STAGES[max(0, self._stage)].name
        description = {"stage": stage, "kind": kind, "input": list(shape), "file": file.name}
        self.programs.append(description)
        print(json.dumps(description), flush=True)


def images() -> Recipe:
    """Return the recipe of a run on random images."""
    rng = np.random.default_rng(0)
    size, preset = (32, "keras:mobilenet") if _TINY.value else (224, "keras:resnet50")

    def random_examples(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, size, size, 3), np.uint8), np.arange(count) % 5

    return Recipe(
        task=ImageClassification(),
        data=Data(
            source=Arrays(
                train=random_examples(40), validation=random_examples(20), test=random_examples(20)
            ),
            batch_size=EXAMPLES_PER_CORE,
        ),
        backbone=Backbone(preset=preset, weights=None, image_size=(size, size)),
        stages=STAGES,
        store=Store(batch_size=EXAMPLES_PER_CORE),
    )


def texts() -> Recipe:
    """Return the recipe of a run on random sentences of many lengths."""
    rng = np.random.default_rng(0)
    words = [[chr(97 + letter) for letter in rng.integers(0, 26, 1 + n % 126)] for n in range(300)]
    tags = [["B-NAME" if word == "q" else "O" for word in sentence] for sentence in words]
    return Recipe(
        task=TokenClassification(sequence_length=128),
        data=Data(source=TaggedWords((words, tags)), batch_size=EXAMPLES_PER_CORE),
        backbone=Backbone(preset=f"hf:{_WEIGHTS.value}"),
        stages=STAGES,
        store=Store(batch_size=EXAMPLES_PER_CORE),
    )


def compile_programs(recipe: Recipe) -> list[dict[str, Any]]:
    """Run a recipe and return the compiler's results for each of its programs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        core = OneCore(recipe.data.batch_size, folder)
        local_devices = factory.local_devices
        factory.local_devices = lambda *_: core
        try:
            sft_keras.finetune(recipe, run_dir=folder / "run", strategy="tpu")
        finally:
            factory.local_devices = local_devices
        compiler = Path(__file__).with_name("tpu_compiler.py")
        command = [_COMPILER.value, str(compiler), TOPOLOGY, str(folder)]
        finished = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
        compiled: Mapping[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    programs = [
        {**program, **compiled["programs"][program.pop("file")]} for program in core.programs
    ]
    return [{**program, "compiler": compiled["versions"]} for program in programs]


def main(_: list[str]) -> None:
    """Run the recipes, compile their programs and write the results."""
    runs = {
        "ResNet50, 224 px": compile_programs(images()),
        "MiniLM (6 layers), 128 tokens, entities": compile_programs(texts()),
    }
    if _TINY.value:
        print(json.dumps(runs, indent=2))
        return
    command = "python benchmarks/tpu_programs.py --weights=... --compiler_python=..."
    results = {"topology": TOPOLOGY, "examples": EXAMPLES_PER_CORE, "runs": runs}
    write_results("tpu_programs", command, results)


if __name__ == "__main__":
    app.run(main)
