"""Batches of texts with masked tokens, as training and evaluation take them: (x, y)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.finished_batches import finished_batches, finished_training_batches
from sft_keras.data.prepared import Prepared
from sft_keras.recipe import Recipe, Stage
from sft_keras.text.masking import Masking

# Not from the recipe's seed: runs that differ in it are compared on the same masked tokens.
_EVALUATION = (0, 2**31)
_TRAINING = 2**30  # tells its seeds from those of the order


def masked_training_batches(
    prepared: Prepared, masking: Masking, recipe: Recipe, stage: Stage, taken: int = 0
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end; those after `taken` ones.

    Elements are (inputs, targets), see `Masking`. What is masked of a text depends on the recipe's
    seed, the stage, the epoch and the text's place in the split alone.
    """
    base_seed = tf.constant([recipe.seed, _TRAINING + recipe.number_of(stage)], tf.int64)

    def masked(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        own_seed = tf.random.experimental.stateless_fold_in(base_seed, batch["epoch"])
        return masking(batch["input"], batch["index"], own_seed)

    return finished_training_batches(prepared, recipe, stage, masked, taken)


def masked_batches(prepared: Prepared, masking: Masking, recipe: Recipe) -> tf.data.Dataset:
    """Returns (inputs, targets) batches in stored order; what is masked is always the same."""
    seed = tf.constant(_EVALUATION, tf.int64)

    def masked(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return masking(batch["input"], batch["index"], seed)

    return finished_batches(prepared, recipe, masked)
