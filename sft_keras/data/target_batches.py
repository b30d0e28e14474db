"""Batches of examples with a y of their own as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.data.features import Structure
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe import Recipe, Stage


def target_training_batches(prepared: Prepared, recipe: Recipe, stage: Stage) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end.

    Elements are (x, y as `prepared.targets` gives it, sample weights float32 [batch], all 1).
    """

    @in_graph
    def weighted(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor, tf.Tensor]:
        return batch["input"], batch["target"], tf.ones_like(batch["index"], tf.float32)

    stage_index = [each.name for each in recipe.stages].index(stage.name)
    batches = training_batches(
        prepared, batch_size=recipe.data.batch_size, seed=recipe.seed, stage_index=stage_index
    )
    return with_options(batches.map(weighted), deterministic=recipe.deterministic)


def target_batches(prepared: Prepared, recipe: Recipe) -> tf.data.Dataset:
    """Returns (x, y) batches in stored order."""
    batches = ordered_batches(prepared, recipe.data.batch_size)
    pairs = batches.map(in_graph(lambda batch: (batch["input"], batch["target"])))
    return with_options(pairs, deterministic=recipe.deterministic)
