"""Base classes of tasks with one target per example. Importing this does not import TensorFlow."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sft_keras.tasks.base import Task

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.data.examples import DataInfo
    from sft_keras.data.prepared import Prepared
    from sft_keras.evaluation.output_monitors import OutputMonitor
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.labelled_batches import Augmentation, SampleWeighting


class SupervisedTask(Task):
    """One y per example: `Prepared.targets`, or the one-hot label of a split without targets.

    Such a task implements `augmentation` and `sample_weighting`; batches follow from these.
    """

    @abc.abstractmethod
    def augmentation(self, recipe: Recipe) -> Augmentation | None:
        """Return the random augmentation of training batches, or None."""

    @abc.abstractmethod
    def sample_weighting(self, stage: Stage, info: DataInfo) -> SampleWeighting:
        """Return the function from y to the sample weights of training batches."""

    def validation_sample_weighting(self, info: DataInfo) -> SampleWeighting | None:
        """Return the function from y to the sample weights of evaluation batches, or None."""
        return None

    @override
    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        from sft_keras.tasks.labelled_batches import labelled_training_batches

        return labelled_training_batches(
            prepared,
            augmentation=self.augmentation(recipe),
            sample_weighting=self.sample_weighting(stage, info),
            recipe=recipe,
            stage=stage,
            info=info,
            skip=skip,
        )

    @override
    def augmented_views(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo, views: int
    ) -> tf.data.Dataset:
        from sft_keras.tasks.labelled_batches import augmented_views

        augmentation = self.augmentation(recipe)
        return augmented_views(
            prepared, augmentation=augmentation, recipe=recipe, info=info, views=views
        )

    @override
    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        from sft_keras.tasks.labelled_batches import labelled_batches

        return labelled_batches(
            prepared,
            recipe=recipe,
            num_classes=info.num_classes,
            sample_weighting=self.validation_sample_weighting(info),
        )


class SingleLabelTask(SupervisedTask):
    """One class per example: softmax and cross-entropy; outputs are class probabilities.

    Attributes:
      top_k: The k of top-k accuracy, which is omitted if there are at most k classes.
    """

    top_k: int

    @override
    def check_against_data(self, recipe: Recipe, info: DataInfo) -> None:
        from sft_keras.tasks.class_weights import class_weights

        for stage in recipe.stages:
            class_weights(stage, info)

    @override
    def sample_weighting(self, stage: Stage, info: DataInfo) -> SampleWeighting:
        import tensorflow as tf

        from sft_keras.tasks.class_weights import class_weights

        weights = tf.constant(class_weights(stage, info), tf.float32)
        return lambda labels: tf.linalg.matvec(labels, weights)

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        import keras

        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=stage.label_smoothing
        )

    @override
    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    @override
    def output_monitors(self, info: DataInfo) -> list[OutputMonitor]:
        from sft_keras.evaluation.output_monitors import CollapseMonitor

        return [CollapseMonitor(info.class_names)]

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Return classification metrics; `outputs` are probabilities, float32 [n, num_classes]."""
        from sft_keras.evaluation.calibration import calibration
        from sft_keras.evaluation.classification import classification_metrics

        labels = prepared.examples.labels
        return {
            **classification_metrics(outputs, labels, info.class_names, self.top_k, seed),
            "calibration": calibration(outputs, labels),
        }

    @override
    def temperature(self, outputs: np.ndarray, prepared: Prepared) -> float:
        from sft_keras.evaluation.calibration import fit_temperature

        return fit_temperature(outputs, prepared.examples.labels)

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        accuracy = metrics["accuracy"]
        return (
            f"accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
            f"{accuracy['high']:.4f}), macro F1 {metrics['macro']['f1']:.4f}, "
            f"{metrics['examples']} examples"
        )

    @override
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        return "accuracy", metrics["accuracy"]["value"]
