"""Batches of labelled examples for training and evaluation: (x, y[, sample weights]).

Augmentation draws from a seed that depends only on the recipe's seed, the stage, the epoch and the
step. A resumed run therefore augments as an uninterrupted one does, on any number of devices.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from typing_extensions import override

from sft_keras.data.batches import training_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Structure
from sft_keras.data.pipeline import finished_batches, finished_training_batches
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.parts import Batches, Objective

Augmentation = Callable[[Structure, tf.Tensor, tf.Tensor], tuple[Structure, tf.Tensor]]
"""(inputs, y, seed int64 [2]) -> (inputs, y): a pure function of its arguments."""

SampleWeighting = Callable[[tf.Tensor], tf.Tensor]
"""y -> sample weights, float32 [batch]; or weights per label, [batch, num_classes]."""

_VIEWS = 2**31  # takes the place of a stage's number in seeds; no stage has it


class LabelledObjective(Objective):
    """An objective with sample weights that follow from y."""

    @abc.abstractmethod
    def training_weights(self, stage: Stage) -> SampleWeighting:
        """Return the function from y to the sample weights of training batches."""

    def evaluation_weights(self) -> SampleWeighting | None:
        """Return the function from y to the sample weights of evaluation batches, or None."""
        return None


class LabelledBatches(Batches):
    """Batches of examples with one y each.

    x is what a split holds, pixels as float32 in 0..255. y is the split's targets or, if it has
    none, one-hot labels, float32 [batch, num_classes].
    """

    def __init__(
        self,
        recipe: Recipe,
        info: DataInfo,
        objective: LabelledObjective,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Build the batches of a recipe.

        Args:
          recipe: The run's recipe.
          info: Facts about the data.
          objective: Returns the sample weights.
          augmentation: Random changes to each batch, or None.
        """
        self._recipe, self._num_classes = recipe, info.num_classes
        self._objective, self._augmentation = objective, augmentation

    @override
    def training(self, prepared: Prepared, stage: Stage, skip: int = 0) -> tf.data.Dataset:
        recipe = self._recipe
        # Cached augmented views are not augmented again.
        augmentation = None if prepared.has_targets else self._augmentation
        finish = self._make_finish(augmentation, recipe.number_of(stage))
        weights_of = self._objective.training_weights(stage)

        def weighted(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor, tf.Tensor]:
            inputs, labels = finish(batch)
            return inputs, labels, weights_of(labels)

        return finished_training_batches(prepared, recipe, stage, weighted, skip)

    @override
    def augmented_views(self, prepared: Prepared, views: int) -> tf.data.Dataset:
        # The order is random: MixUp and CutMix must mix examples of different classes.
        recipe, size = self._recipe, len(prepared.examples)
        finish = self._make_finish(self._augmentation, _VIEWS)

        @in_graph
        def numbered(batch: Mapping[str, Any]) -> tuple[tf.Tensor, Structure, tf.Tensor]:
            return (batch["epoch"] * size + batch["index"], *finish(batch))

        batches = training_batches(
            prepared, recipe.data.batch_size, recipe.seed, _VIEWS, epochs=views
        )
        return with_options(batches.map(numbered), deterministic=recipe.deterministic)

    @override
    def evaluation(self, prepared: Prepared) -> tf.data.Dataset:
        finish_unaugmented = self._make_finish(None, _VIEWS)
        weights_of = self._objective.evaluation_weights()

        def finish(batch: Mapping[str, Any]) -> tuple[Structure | tf.Tensor, ...]:
            inputs, labels = finish_unaugmented(batch)
            return (inputs, labels) if weights_of is None else (inputs, labels, weights_of(labels))

        return finished_batches(prepared, self._recipe, finish)

    def _make_finish(
        self, augmentation: Augmentation | None, stage_index: int
    ) -> Callable[[Mapping[str, Any]], tuple[Structure, tf.Tensor]]:
        """Return the function from a batch to (x, y), augmented if there is an augmentation."""
        base_seed = tf.constant([self._recipe.seed, stage_index], tf.int64)

        def finish(batch: Mapping[str, Any]) -> tuple[Structure, tf.Tensor]:
            inputs = _pixels_to_float(batch["input"])
            if "target" in batch:
                labels = batch["target"]
            else:
                labels = tf.one_hot(batch["label"], self._num_classes)
            if augmentation is not None:
                fold_in = tf.random.experimental.stateless_fold_in
                step_seed = fold_in(fold_in(base_seed, batch["epoch"]), batch["step"])
                inputs, labels = augmentation(inputs, labels, step_seed)
            return inputs, labels

        return finish


def _pixels_to_float(inputs: Structure) -> Structure:
    is_pixels = tf.is_tensor(inputs) and inputs.dtype == tf.uint8
    return tf.cast(inputs, tf.float32) if is_pixels else inputs
