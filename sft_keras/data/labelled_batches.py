"""Batches of labelled examples as training and evaluation take them: (x, y[, sample weight])."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Structure
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.errors import RecipeError
from sft_keras.recipe import Recipe, Stage
from sft_keras.recipe_checks import did_you_mean

Augmentation = Callable[[Structure, tf.Tensor, tf.Tensor], tuple[Structure, tf.Tensor]]
"""(inputs, one-hot labels, seed int64 [2]) -> (inputs, labels), changed as the seed says."""

_VIEWS = 2**31  # in the place of a stage's number; no stage has it


def labelled_training_batches(
    prepared: Prepared,
    *,
    augmented: Augmentation | None,
    recipe: Recipe,
    stage: Stage,
    info: DataInfo,
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end.

    Elements are (x, one-hot labels float32 [batch, num_classes], sample weights float32 [batch]).
    x is what `prepared` holds, pixels as float32 in 0..255. How it is changed depends on the
    recipe's seed, the stage, the epoch and the step alone; stored views were changed before.
    """
    weights = tf.constant(class_weights(stage, info), tf.float32)
    stage_index = [each.name for each in recipe.stages].index(stage.name)
    finish = _finishing(augmented, recipe.seed, stage_index, info.num_classes)

    @in_graph
    def weighted(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor, tf.Tensor]:
        inputs, labels = finish(batch)
        return inputs, labels, tf.linalg.matvec(labels, weights)

    batches = training_batches(
        prepared, batch_size=recipe.data.batch_size, seed=recipe.seed, stage_index=stage_index
    )
    # One batch at a time: what Keras' layers draw must not depend on which thread is faster.
    return with_options(batches.map(weighted), deterministic=recipe.deterministic)


def augmented_views(
    prepared: Prepared,
    *,
    augmented: Augmentation | None,
    recipe: Recipe,
    info: DataInfo,
    views: int,
) -> tf.data.Dataset:
    """Returns each example of a split `views` times, changed anew each time.

    Batches are made in random order, so that examples are mixed with those of other classes.

    Returns:
      Batches of (rows int64 [batch], as `Prepared.views` numbers them; x as for training; labels
      float32 [batch, num_classes]).
    """
    finish = _finishing(augmented, recipe.seed, _VIEWS, info.num_classes)
    size = len(prepared.examples)

    @in_graph
    def numbered(batch: Mapping[str, Any]) -> tuple[tf.Tensor, Structure, tf.Tensor]:
        return (batch["epoch"] * size + batch["index"], *finish(batch))

    batches = training_batches(prepared, recipe.data.batch_size, recipe.seed, _VIEWS, epochs=views)
    return with_options(batches.map(numbered), deterministic=recipe.deterministic)


def labelled_batches(prepared: Prepared, *, recipe: Recipe, num_classes: int) -> tf.data.Dataset:
    """Returns (x, one-hot labels float32) batches in stored order, x as for training."""

    @in_graph
    def finish(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor]:
        return _as_numbers(batch["input"]), tf.one_hot(batch["label"], num_classes)

    batches = ordered_batches(prepared, recipe.data.batch_size)
    return with_options(batches.map(finish), deterministic=recipe.deterministic)


def _finishing(
    augmented: Augmentation | None, seed: int, stage_index: int, num_classes: int
) -> Callable[[Mapping[str, Any]], tuple[Structure, tf.Tensor]]:
    """Returns the function from a batch to (x, labels), augmented."""
    base_seed = tf.constant([seed, stage_index], tf.int64)

    def finish(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor]:
        inputs, labels = _as_numbers(batch["input"]), tf.one_hot(batch["label"], num_classes)
        if "target" in batch:
            labels = batch["target"]
        elif augmented is not None:
            fold_in = tf.random.experimental.stateless_fold_in
            own_seed = fold_in(fold_in(base_seed, batch["epoch"]), batch["step"])
            inputs, labels = augmented(inputs, labels, own_seed)
        return inputs, labels

    return finish


def _as_numbers(inputs: Structure) -> Structure:
    is_pixels = tf.is_tensor(inputs) and inputs.dtype == tf.uint8
    return tf.cast(inputs, tf.float32) if is_pixels else inputs


def class_weights(stage: Stage, info: DataInfo) -> np.ndarray:
    """Returns the weight of each class in a stage, float32 [num_classes].

    Raises:
      RecipeError: If `Stage.class_weights` names a class that the data does not have.
    """
    if stage.class_weights is None:
        return np.ones(info.num_classes, np.float32)
    if stage.class_weights == "balanced":
        labels = np.repeat(np.arange(info.num_classes), info.counts["train"])
        present = np.unique(labels)  # a class without examples needs no weight, and has none
        weights = np.zeros(info.num_classes, np.float32)
        weights[present] = compute_class_weight("balanced", classes=present, y=labels)
        return weights
    unknown = [name for name in stage.class_weights if name not in info.class_names]
    if unknown:
        raise RecipeError(
            f"`stages.{stage.name}.class_weights` names classes that the data does not have. "
            f"Received: {', '.join(unknown)}.{did_you_mean(unknown[0], info.class_names)} "
            f"The data has: {', '.join(info.class_names)}."
        )
    return np.array([stage.class_weights.get(name, 1.0) for name in info.class_names], np.float32)
