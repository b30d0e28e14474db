"""Batches of texts of like length against batches padded to the recipe's sequence_length.

    python benchmarks/text_lengths.py --weights=FOLDER --reviews=FOLDER

Writes results/text_lengths.json: by turns, the seconds of an epoch in which all layers train on the
same texts. Each side's first epoch, in which graphs are traced, is left out.

FOLDERs: a BERT as `save_pretrained` leaves it; rt-polarity.pos and .neg (Pang & Lee 2005), a text a
line.
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
from written import write_results

from sft_keras import Backbone, Data, Recipe, Stage, Texts
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.tasks import TextClassification
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import build_staged

_WEIGHTS = flags.DEFINE_string("weights", None, "A BERT's folder.", required=True)
_REVIEWS = flags.DEFINE_string("reviews", None, "The folder of film reviews.", required=True)
_TEXTS = flags.DEFINE_integer("texts", 500, "How many texts.")
_LENGTHS = flags.DEFINE_list("sequence_lengths", ["64", "128"], "The lengths to compare with.")

REPEATS = 3


def source() -> Texts:
    """Returns some reviews of either kind."""
    texts, labels = [], []
    for label in ("neg", "pos"):
        file = Path(_REVIEWS.value, f"rt-polarity.{label}")
        lines = file.read_text(encoding="latin-1").splitlines()
        chosen = np.random.default_rng(0).permutation(len(lines))[: _TEXTS.value // 2]
        texts += [lines[each] for each in chosen]
        labels += [label] * len(chosen)
    return Texts((texts, labels))


def epochs(recipe: Recipe) -> tuple[list[float], list[float], float]:
    """Returns the seconds of epochs padded to the longest there may be, those of epochs of like
    lengths, and the mean number of tokens of a text."""
    task, (stage,) = recipe.task, recipe.stages
    splits = task.open_data(recipe, recipe.seed)
    prepared = task.preprocess(splits, recipe, lambda done, total: None)["train"]
    staged = build_staged(recipe, task.build_backbone(recipe), splits.info)
    steps = -(-len(prepared.examples) // recipe.data.batch_size)
    model = prepare_stage(staged, stage, steps, task.loss(stage), task.training_metrics())

    def whole(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            name: tf.pad(each, [[0, 0], [0, task.sequence_length - tf.shape(each)[1]]])
            for name, each in inputs.items()
        }

    def batches_of(split: Prepared) -> tf.data.Dataset:
        return task.training_batches(split, recipe, stage, splits.info)

    padded = batches_of(dataclasses.replace(prepared, lengths=None))
    sides = (
        padded.map(lambda inputs, *others: (whole(inputs), *others)),
        batches_of(prepared),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + REPEATS):
        for side, own in zip(sides, seconds):
            began = time.perf_counter()
            model.fit(side, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
            own.append(time.perf_counter() - began)
    return seconds[0][1:], seconds[1][1:], float(prepared.lengths.mean())


def main(_: list[str]) -> None:
    """Measures for every sequence length and writes the figures."""
    found = []
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
            padded, alike, tokens = epochs(recipe)
        ratios = [one / other for one, other in zip(padded, alike)]
        found.append(
            {
                "sequence_length": length,
                "mean_tokens": tokens,
                "padded_seconds": padded,
                "alike_seconds": alike,
                "ratio_median": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
        print(f"{length}: padded / alike {found[-1]['ratio_median']:.2f}", flush=True)
    made = {
        "texts": _TEXTS.value,
        "lengths": found,
    }
    command = "python benchmarks/text_lengths.py --weights=... --reviews=..."
    write_results("text_lengths", command, made)


if __name__ == "__main__":
    app.run(main)
