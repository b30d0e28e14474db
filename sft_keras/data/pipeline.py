"""Batches as training and evaluation consume them, after the task's own last step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage

Finish = Callable[[Mapping[str, Any]], tuple[Any, ...]]
"""Maps a batch of `training_batches` to (x, y) or (x, y, sample weights); runs in a graph."""


def finished_training_batches(
    prepared: Prepared, recipe: Recipe, stage: Stage, finish: Finish, skip: int = 0
) -> tf.data.Dataset:
    """Return the shuffled batches of a stage, epoch after epoch, without end.

    Args:
      prepared: The training split.
      recipe: Sets the batch size, the seed and whether the order of execution is deterministic.
      stage: A stage of the recipe.
      finish: The task's last step.
      skip: Number of batches to skip, those before a checkpoint.
    """
    steps_per_epoch = math.ceil(len(prepared.examples) / recipe.data.batch_size)
    epoch, step = divmod(skip, steps_per_epoch)
    batches = training_batches(
        prepared,
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
        stage_index=recipe.number_of(stage),
        first_epoch=epoch,
        first_step=step,
    )
    # One batch at a time: the random draws of Keras layers must not depend on thread timing.
    return with_options(batches.map(in_graph(finish)), deterministic=recipe.deterministic)


def finished_batches(prepared: Prepared, recipe: Recipe, finish: Finish) -> tf.data.Dataset:
    """Return the batches of a split in stored order, after the task's last step."""
    batches = ordered_batches(prepared, recipe.data.batch_size)
    return with_options(batches.map(in_graph(finish)), deterministic=recipe.deterministic)


def with_targets(batch: Mapping[str, Any]) -> tuple[Any, tf.Tensor, tf.Tensor]:
    """Return (x, y from `Prepared.targets`, sample weights float32 [batch], all 1)."""
    return batch["input"], batch["target"], tf.ones_like(batch["index"], tf.float32)
