"""Batches of texts with masked tokens, as training and evaluation take them: (x, y)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe import Recipe, Stage
from sft_keras.text.masking import Masking

# Not from the recipe's seed: runs that differ in it are compared on the same masked tokens.
_EVALUATION = (0, 2**31)
_TRAINING = 2**30  # tells its seeds from those of the order


def masked_training_batches(
    prepared: Prepared, masking: Masking, recipe: Recipe, stage: Stage
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end.

    Elements are (inputs, targets), see `Masking`. What is masked of a text depends on the recipe's
    seed, the stage, the epoch and the text's place in the split alone.
    """
    stage_index = [each.name for each in recipe.stages].index(stage.name)
    base_seed = tf.constant([recipe.seed, _TRAINING + stage_index], tf.int64)

    @in_graph
    def masked(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        own_seed = tf.random.experimental.stateless_fold_in(base_seed, batch["epoch"])
        return masking(batch["input"], batch["index"], own_seed)

    batches = training_batches(prepared, recipe.data.batch_size, recipe.seed, stage_index)
    return with_options(batches.map(masked), deterministic=recipe.deterministic)


def masked_batches(prepared: Prepared, masking: Masking, recipe: Recipe) -> tf.data.Dataset:
    """Returns (inputs, targets) batches in stored order; what is masked is always the same."""
    seed = tf.constant(_EVALUATION, tf.int64)

    @in_graph
    def masked(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return masking(batch["input"], batch["index"], seed)

    batches = ordered_batches(prepared, recipe.data.batch_size)
    return with_options(batches.map(masked), deterministic=recipe.deterministic)
