"""Batches of examples with a class for each token: (x, y, sample weight)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.data.features import Structure
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe import Recipe, Stage

IGNORED = -1
"""The target of tokens that have no class: they count neither in the loss nor in figures."""

_Batch = tuple[Structure, tf.Tensor, tf.Tensor]


def token_training_batches(
    prepared: Prepared, *, recipe: Recipe, stage: Stage, num_classes: int
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end.

    Elements are (x; one-hot classes float32 [batch, tokens, num_classes], with zeros for tokens
    that have none; sample weights float32 [batch, tokens], 0 for these and 1 for others).
    """
    stage_index = [each.name for each in recipe.stages].index(stage.name)
    batches = training_batches(
        prepared, batch_size=recipe.data.batch_size, seed=recipe.seed, stage_index=stage_index
    )
    return _finished(batches, recipe, num_classes)


def token_batches(prepared: Prepared, *, recipe: Recipe, num_classes: int) -> tf.data.Dataset:
    """Returns (x, y, sample weight) batches in stored order, as for training."""
    return _finished(ordered_batches(prepared, recipe.data.batch_size), recipe, num_classes)


def _finished(batches: tf.data.Dataset, recipe: Recipe, num_classes: int) -> tf.data.Dataset:
    @in_graph
    def finish(batch: Mapping[str, Any]) -> _Batch:
        classes = batch["target"]
        weights = tf.cast(classes != IGNORED, tf.float32)
        return batch["input"], tf.one_hot(classes, num_classes), weights  # a row of zeros for -1

    return with_options(batches.map(finish), deterministic=recipe.deterministic)
