"""Every program of whole runs, as a core of a TPU would get it, compiled by the TPU's own compiler.

    python benchmarks/tpu_programs.py --weights=FOLDER --compiler_python=PYTHON

Writes results/tpu_programs.json. A TPU is not needed, and nothing is run on one: what is measured
is whether its compiler takes each program, how long that takes here, and what memory of a core it
then needs. The runs themselves go on here, on the CPU, with batches of one core; what cores say to
each other is not in the programs.

FOLDER: a BERT as `save_pretrained` leaves it. PYTHON: of an environment with jax and libtpu (pip
install jax libtpu), which this package does not need.
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
from written import write_results

import sft_keras
from sft_keras import Arrays, Backbone, Data, Recipe, Stage, Store, TaggedWords
from sft_keras.distributed import factory
from sft_keras.distributed.tpu import XlaReplicas
from sft_keras.tasks import ImageClassification, TokenClassification

_WEIGHTS = flags.DEFINE_string("weights", None, "The folder of a BERT.", required=True)
_COMPILER = flags.DEFINE_string(
    "compiler_python", None, "The Python that has jax and libtpu.", required=True
)
_TINY = flags.DEFINE_bool("tiny", False, "Try it on a small network; write nothing.")

TOPOLOGY = "v5e:2x2"
ON_A_CORE = 32  # examples
_KINDS = {  # by the function that is traced
    "Steps._trained": "training step",
    "Steps._tested": "validation step",
    "run_pass.<locals>.<lambda>": "frozen blocks",
    "Devices.make_predict_function.<locals>.<lambda>": "answers",
}
STAGES = (
    Stage(name="head", epochs=1, learning_rate=1e-3),
    Stage(name="top", epochs=1, learning_rate=1e-4, unfreeze=1),
    Stage(name="all layers", epochs=1, learning_rate=1e-5, unfreeze="all", train_batch_norm=True),
)


class OneCore(XlaReplicas):
    """A core of a TPU, but that the CPU computes; it writes down each program that is asked for."""

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
        """Return a traced function that writes the program of every new shape."""
        graph = tf.function(function, autograph=False)
        program = tf.function(function, autograph=False, jit_compile=True)
        kind, known = _KINDS[function.__qualname__], set()

        def call(*arguments: Any) -> Any:
            shapes = tuple(tuple(each.shape) for each in tf.nest.flatten(arguments))
            if shapes not in known:
                known.add(shapes)
                self._write(kind, shapes[0], program, arguments)
            return graph(*arguments)

        return call

    def _write(
        self, kind: str, shape: tuple[int, ...], program: Any, arguments: Sequence[Any]
    ) -> None:
        made = program.experimental_get_compiler_ir(*arguments)(stage="hlo_serialized")
        file = self._folder / f"{len(self.programs):03d}.hlo"
        file.write_bytes(made)
        stage = STAGES[max(0, self._stage)].name if kind != "frozen blocks" else "before"
        about = {"stage": stage, "kind": kind, "input": list(shape), "file": file.name}
        self.programs.append(about)
        print(json.dumps(about), flush=True)


def images() -> Recipe:
    """Returns a run on random images."""
    draw = np.random.default_rng(0)
    size, preset = (32, "keras:mobilenet") if _TINY.value else (224, "keras:resnet50")

    def some(count: int) -> tuple[np.ndarray, np.ndarray]:
        return draw.integers(0, 256, (count, size, size, 3), np.uint8), np.arange(count) % 5

    return Recipe(
        task=ImageClassification(),
        data=Data(
            source=Arrays(train=some(40), validation=some(20), test=some(20)),
            batch_size=ON_A_CORE,
        ),
        backbone=Backbone(preset=preset, weights=None, image_size=(size, size)),
        stages=STAGES,
        store=Store(batch_size=ON_A_CORE),
    )


def texts() -> Recipe:
    """Returns a run on made-up sentences of many lengths."""
    draw = np.random.default_rng(0)
    words = [[chr(97 + each) for each in draw.integers(0, 26, 1 + n % 126)] for n in range(300)]
    tags = [["B-NAME" if word == "q" else "O" for word in each] for each in words]
    return Recipe(
        task=TokenClassification(sequence_length=128),
        data=Data(source=TaggedWords((words, tags)), batch_size=ON_A_CORE),
        backbone=Backbone(preset=f"hf:{_WEIGHTS.value}"),
        stages=STAGES,
        store=Store(batch_size=ON_A_CORE),
    )


def programs_of(recipe: Recipe) -> list[dict[str, Any]]:
    """Runs a recipe, and returns what the compiler makes of each of its programs."""
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
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
        compiled: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    made = [{**each, **compiled["programs"][each.pop("file")]} for each in core.programs]
    return [{**each, "compiler": compiled["versions"]} for each in made]


def main(_: list[str]) -> None:
    """Runs the recipes and writes what came of it."""
    runs = {
        "ResNet50, 224 px": programs_of(images()),
        "MiniLM (6 layers), 128 tokens, entities": programs_of(texts()),
    }
    if _TINY.value:
        print(json.dumps(runs, indent=2))
        return
    command = "python benchmarks/tpu_programs.py --weights=... --compiler_python=..."
    figures = {"topology": TOPOLOGY, "examples": ON_A_CORE, "runs": runs}
    write_results("tpu_programs", command, figures)


if __name__ == "__main__":
    app.run(main)
