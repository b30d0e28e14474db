"""Batches of labelled images as training and evaluation take them: (x, y[, sample weight])."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from sft_keras.augmentation import build_augmentation
from sft_keras.data.batches import ordered_batches, training_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.store import Prepared
from sft_keras.errors import RecipeError
from sft_keras.recipe import Recipe, Stage
from sft_keras.recipe_checks import did_you_mean
from sft_keras.tasks.augment import Augment


def labelled_training_batches(
    prepared: Prepared, *, augment: Augment, recipe: Recipe, stage: Stage, info: DataInfo
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end.

    Elements are (images float32 [batch, height, width, 3] in 0..255, one-hot labels float32
    [batch, num_classes], sample weights float32 [batch]). What an image gets depends on the
    recipe's seed, the stage, the epoch and the step alone.
    """
    augmented = build_augmentation(augment)
    weights = tf.constant(class_weights(stage, info), tf.float32)
    stage_index = [each.name for each in recipe.stages].index(stage.name)
    base_seed = tf.constant([recipe.seed, stage_index], tf.int64)

    def finish(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images = tf.cast(batch["image"], tf.float32)
        labels = tf.one_hot(batch["label"], info.num_classes)
        if augmented is not None:
            fold_in = tf.random.experimental.stateless_fold_in
            seed = fold_in(fold_in(base_seed, batch["epoch"]), batch["step"])
            images, labels = augmented(images, labels, seed)
        return images, labels, tf.linalg.matvec(labels, weights)

    batches = training_batches(
        prepared, batch_size=recipe.data.batch_size, seed=recipe.seed, stage_index=stage_index
    )
    # One batch at a time: what Keras' layers draw must not depend on which thread is faster.
    return with_options(batches.map(finish), deterministic=recipe.deterministic)


def labelled_batches(prepared: Prepared, *, recipe: Recipe, num_classes: int) -> tf.data.Dataset:
    """Returns (images float32 in 0..255, one-hot labels float32) batches in stored order."""

    def finish(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(images, tf.float32), tf.one_hot(labels, num_classes)

    batches = ordered_batches(prepared, recipe.data.batch_size)
    return with_options(batches.map(finish), deterministic=recipe.deterministic)


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
