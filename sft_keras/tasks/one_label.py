"""What tasks with one label an example have in common. Importing it does not import TensorFlow."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from sft_keras.tasks.base import Task

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.data.examples import DataInfo
    from sft_keras.data.labelled_batches import Augmentation
    from sft_keras.data.prepared import Prepared
    from sft_keras.recipe import Recipe, Stage


class OneLabel(Task):
    """One label out of `num_classes` for each example; the model's outputs are probabilities.

    Attributes:
      top_k: The k of top-k accuracy; left out where there are not more classes than that.
    """

    top_k: int

    @abc.abstractmethod
    def augmentation(self, recipe: Recipe) -> Augmentation | None:
        """Returns how training batches are changed at random; None for not."""

    def require_fit(self, recipe: Recipe, info: DataInfo) -> None:
        """See `Task.require_fit`."""
        from sft_keras.data.labelled_batches import class_weights

        for stage in recipe.stages:
            class_weights(stage, info)

    def training_batches(
        self, prepared: Prepared, recipe: Recipe, stage: Stage, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.training_batches`."""
        from sft_keras.data.labelled_batches import labelled_training_batches

        return labelled_training_batches(
            prepared,
            augmented=self.augmentation(recipe),
            recipe=recipe,
            stage=stage,
            info=info,
        )

    def augmented_views(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo, views: int
    ) -> tf.data.Dataset:
        """See `Task.augmented_views`."""
        from sft_keras.data.labelled_batches import augmented_views

        augmented = self.augmentation(recipe)
        return augmented_views(prepared, augmented=augmented, recipe=recipe, info=info, views=views)

    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.evaluation_batches`."""
        from sft_keras.data.labelled_batches import labelled_batches

        return labelled_batches(prepared, recipe=recipe, num_classes=info.num_classes)

    def loss(self, stage: Stage) -> keras.losses.Loss:
        """See `Task.loss`."""
        import keras

        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=stage.label_smoothing
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """See `Task.metrics`."""
        import keras

        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """See `Task.evaluate`; `outputs` are probabilities, float32 [n, num_classes]."""
        from sft_keras.classification_metrics import classification_metrics

        labels = prepared.examples.labels
        return classification_metrics(outputs, labels, info.class_names, self.top_k, seed)

    def summary(self, figures: dict[str, Any]) -> str:
        """See `Task.summary`."""
        accuracy = figures["accuracy"]
        return (
            f"accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
            f"{accuracy['high']:.4f}), macro F1 {figures['macro']['f1']:.4f}, "
            f"{figures['examples']} examples"
        )

    def score(self, figures: dict[str, Any]) -> tuple[str, float]:
        """See `Task.score`."""
        return "accuracy", figures["accuracy"]["value"]
