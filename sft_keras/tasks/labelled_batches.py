"""Batches of labelled examples for training and evaluation: (x, y[, sample weights]).

Augmentation draws from a seed that depends only on the recipe's seed, the stage, the epoch and the
step. A resumed run therefore augments as an uninterrupted one does, on any number of devices.
"""

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
"""(inputs, y, seed int64 [2]) -> (inputs, y): a pure function of its arguments."""

SampleWeighting = Callable[[tf.Tensor], tf.Tensor]
"""y -> sample weights, float32 [batch]; or weights per label, [batch, num_classes]."""

_VIEWS = 2**31  # takes the place of a stage's number in seeds; no stage has it


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
    """Return an endless data set of shuffled batches for a stage.

    Args:
      prepared: The training split. Cached augmented views are not augmented again.
      augmentation: Random changes to each batch, or None.
      sample_weighting: From y to sample weights, after augmentation.
      recipe: The run's recipe.
      stage: One of its stages.
      info: Facts about the data.
      skip: Number of batches to skip at the start.

    Returns:
      (x, y, sample weights) batches. x is what `prepared` holds, pixels as float32 in 0..255; y is
      the split's targets, or one-hot labels, float32 [batch, num_classes], if it has none.
    """
    if prepared.has_targets:
        augmentation = None
    finish = _make_finish(augmentation, recipe.seed, recipe.number_of(stage), info.num_classes)

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
    """Return every example of a split `views` times, each time with another augmentation.

    The order is random: MixUp and CutMix must mix examples of different classes.

    Returns:
      Batches of (row numbers as defined by `Prepared.views`, int64 [batch]; x; y), with x and y as
      in `labelled_training_batches`.
    """
    finish = _make_finish(augmentation, recipe.seed, _VIEWS, info.num_classes)
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
    """Return one pass over a split in stored order, without augmentation.

    Returns:
      (x, y) batches, or (x, y, sample weights) with a `sample_weighting`; x and y are as in
      `labelled_training_batches`.
    """
    finish_unaugmented = _make_finish(None, recipe.seed, _VIEWS, num_classes)

    def finish(batch: Mapping[str, Any]) -> tuple[Structure | tf.Tensor, ...]:
        inputs, labels = finish_unaugmented(batch)
        if sample_weighting is None:
            return inputs, labels
        return inputs, labels, sample_weighting(labels)

    return finished_batches(prepared, recipe, finish)


def _make_finish(
    augmentation: Augmentation | None, seed: int, stage_index: int, num_classes: int
) -> Callable[[Mapping[str, Any]], tuple[Structure, tf.Tensor]]:
    """Return the function from a batch to (x, y), augmented if there is an augmentation."""
    base_seed = tf.constant([seed, stage_index], tf.int64)

    def finish(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor]:
        inputs = _pixels_to_float(batch["input"])
        labels = batch["target"] if "target" in batch else tf.one_hot(batch["label"], num_classes)
        if augmentation is not None:
            fold_in = tf.random.experimental.stateless_fold_in
            step_seed = fold_in(fold_in(base_seed, batch["epoch"]), batch["step"])
            inputs, labels = augmentation(inputs, labels, step_seed)
        return inputs, labels

    return finish


def _pixels_to_float(inputs: Structure) -> Structure:
    is_pixels = tf.is_tensor(inputs) and inputs.dtype == tf.uint8
    return tf.cast(inputs, tf.float32) if is_pixels else inputs
