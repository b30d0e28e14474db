"""Batches of labelled examples as training and evaluation take them: (x, y[, sample weight])."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from sft_keras.data.batches import training_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Structure
from sft_keras.data.pipeline import finished_batches, finished_training_batches
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage

Augmentation = Callable[[Structure, tf.Tensor, tf.Tensor], tuple[Structure, tf.Tensor]]
"""(inputs, y, seed int64 [2]) -> (inputs, y), changed as the seed says."""

SampleWeighting = Callable[[tf.Tensor], tf.Tensor]
"""y -> sample weights, float32 [batch], or those of each label, [batch, num_classes]."""

_VIEWS = 2**31  # in the place of a stage's number; no stage has it


def labelled_training_batches(
    prepared: Prepared,
    *,
    augmentation: Augmentation | None,
    sample_weighting: SampleWeighting,
    recipe: Recipe,
    stage: Stage,
    info: DataInfo,
    skip: int = 0,
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end; those after `skip` ones.

    Elements are (x, y, sample weights). y is the split's targets, or its one-hot labels, float32
    [batch, num_classes], where it has none. x is what `prepared` holds, pixels as float32 in
    0..255. Augmentation depends only on the recipe's seed, the stage, the epoch and the step;
    stored views were augmented before.
    """
    if prepared.has_targets:
        augmentation = None
    finish = _finishing(augmentation, recipe.seed, recipe.number_of(stage), info.num_classes)

    def weighted(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor, tf.Tensor]:
        inputs, labels = finish(batch)
        return inputs, labels, sample_weighting(labels)

    return finished_training_batches(prepared, recipe, stage, weighted, skip)


def augmented_views(
    prepared: Prepared,
    *,
    augmentation: Augmentation | None,
    recipe: Recipe,
    info: DataInfo,
    views: int,
) -> tf.data.Dataset:
    """Returns each example of a split `views` times, changed anew each time.

    Batches are made in random order, so that examples are mixed with those of other classes.

    Returns:
      Batches of (rows int64 [batch], as `Prepared.views` numbers them; x and y as for training).
    """
    finish = _finishing(augmentation, recipe.seed, _VIEWS, info.num_classes)
    size = len(prepared.examples)

    @in_graph
    def numbered(batch: Mapping[str, Any]) -> tuple[tf.Tensor, Structure, tf.Tensor]:
        return (batch["epoch"] * size + batch["index"], *finish(batch))

    batches = training_batches(prepared, recipe.data.batch_size, recipe.seed, _VIEWS, epochs=views)
    return with_options(batches.map(numbered), deterministic=recipe.deterministic)


def labelled_batches(
    prepared: Prepared,
    *,
    recipe: Recipe,
    num_classes: int,
    sample_weighting: SampleWeighting | None = None,
) -> tf.data.Dataset:
    """Returns (x, y) batches in stored order, or (x, y, sample weights), as for training."""
    unchanged = _finishing(None, recipe.seed, _VIEWS, num_classes)

    def finish(batch: Mapping[str, Any]) -> tuple[Structure | tf.Tensor, ...]:
        inputs, labels = unchanged(batch)
        if sample_weighting is None:
            return inputs, labels
        return inputs, labels, sample_weighting(labels)

    return finished_batches(prepared, recipe, finish)


def _finishing(
    augmentation: Augmentation | None, seed: int, stage_index: int, num_classes: int
) -> Callable[[Mapping[str, Any]], tuple[Structure, tf.Tensor]]:
    """Returns the function from a batch to (x, y), augmented."""
    base_seed = tf.constant([seed, stage_index], tf.int64)

    def finish(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor]:
        inputs = _as_numbers(batch["input"])
        labels = batch["target"] if "target" in batch else tf.one_hot(batch["label"], num_classes)
        if augmentation is not None:
            fold_in = tf.random.experimental.stateless_fold_in
            own_seed = fold_in(fold_in(base_seed, batch["epoch"]), batch["step"])
            inputs, labels = augmentation(inputs, labels, own_seed)
        return inputs, labels

    return finish


def _as_numbers(inputs: Structure) -> Structure:
    is_pixels = tf.is_tensor(inputs) and inputs.dtype == tf.uint8
    return tf.cast(inputs, tf.float32) if is_pixels else inputs
