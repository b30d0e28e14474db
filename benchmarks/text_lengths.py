"""Epoch time with bucketing by length vs. padding every batch to sequence_length.

    python benchmarks/text_lengths.py --weights=FOLDER --reviews=FOLDER

Writes results/text_lengths.json: the seconds of alternating epochs in which all layers train on the
same texts. The first epoch of each side, which traces its graphs, is dropped.

FOLDERs: a BERT saved with `save_pretrained`; rt-polarity.pos and .neg (Pang & Lee 2005), one text
per line.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from results_file import write_results

from sft_keras import Backbone, Data, Recipe, Stage, Texts
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.tasks import TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import build_staged

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Folder of a BERT in Hugging Face format.", required=True
)
_REVIEWS = flags.DEFINE_string("reviews", None, "Folder of the film reviews.", required=True)
_TEXTS = flags.DEFINE_integer("texts", 500, "Number of texts.")
_LENGTHS = flags.DEFINE_list("sequence_lengths", ["64", "128"], "Values of sequence_length.")

REPEATS = 3


def source() -> Texts:
    """Return --texts reviews, half of them negative and half positive."""
    texts, labels = [], []
    for label in ("neg", "pos"):
        file = Path(_REVIEWS.value, f"rt-polarity.{label}")
        lines = file.read_text(encoding="latin-1").splitlines()
        chosen = np.random.default_rng(0).permutation(len(lines))[: _TEXTS.value // 2]
        texts += [lines[index] for index in chosen]
        labels += [label] * len(chosen)
    return Texts((texts, labels))


def time_epochs(recipe: Recipe) -> tuple[list[float], list[float], float]:
    """Return the seconds of padded and of bucketed epochs, and the mean tokens per text."""
    (stage,) = recipe.stages
    sequence_length = recipe.task.sequence_length
    splits = build_task(recipe).open_data(recipe.seed)
    task = build_task(recipe, splits.info)
    prepared = task.preprocessor.preprocess(splits, lambda done, total: None)["train"]
    staged = build_staged(recipe, task.build_backbone(), splits.info)
    steps = -(-len(prepared.examples) // recipe.data.batch_size)
    model = prepare_stage(
        staged, stage, steps, task.objective.loss(stage), task.objective.metrics()
    )

    def pad(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            name: tf.pad(tokens, [[0, 0], [0, sequence_length - tf.shape(tokens)[1]]])
            for name, tokens in inputs.items()
        }

    def batches_of(split: Prepared) -> tf.data.Dataset:
        return task.batches.training(split, stage)

    padded = batches_of(dataclasses.replace(prepared, lengths=None))
    sides = (
        padded.map(lambda inputs, *others: (pad(inputs), *others)),
        batches_of(prepared),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + REPEATS):
        for side, side_seconds in zip(sides, seconds):
            start = time.perf_counter()
            model.fit(side, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
            side_seconds.append(time.perf_counter() - start)
    return seconds[0][1:], seconds[1][1:], float(prepared.lengths.mean())


def main(_: list[str]) -> None:
    """Measure every sequence length and write the results."""
    rows = []
    for length in map(int, _LENGTHS.value):
        recipe = Recipe(
            task=TextClassification(sequence_length=length),
            data=Data(source=source(), batch_size=32),
            backbone=Backbone(preset=f"hf:{_WEIGHTS.value}"),
            stages=(Stage(name="all", epochs=1, learning_rate=5e-5, unfreeze="all"),),
            cache="off",
        )
        keras.backend.clear_session()
        with configured_keras(recipe):
            padded, bucketed, mean_tokens = time_epochs(recipe)
        ratios = [slow / fast for slow, fast in zip(padded, bucketed)]
        rows.append(
            {
                "sequence_length": length,
                "mean_tokens": mean_tokens,
                "padded_seconds": padded,
                "alike_seconds": bucketed,
                "ratio_median": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
        print(f"{length} tokens: padded / bucketed {rows[-1]['ratio_median']:.2f}", flush=True)
    results = {
        "texts": _TEXTS.value,
        "lengths": rows,
    }
    command = "python benchmarks/text_lengths.py --weights=... --reviews=..."
    write_results("text_lengths", command, results)


if __name__ == "__main__":
    app.run(main)
