"""What tasks with one label an example have in common. Importing it does not import TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sft_keras.tasks.labelled import Labelled

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sft_keras.data.examples import DataInfo
    from sft_keras.data.labelled_batches import Weighing
    from sft_keras.data.prepared import Prepared
    from sft_keras.recipe import Recipe, Stage
    from sft_keras.steps import OutputWatch


class OneLabel(Labelled):
    """One label out of `num_classes` for each example; the model's outputs are probabilities.

    Attributes:
      top_k: The k of top-k accuracy; left out where there are not more classes than that.
    """

    top_k: int

    def require_fit(self, recipe: Recipe, info: DataInfo) -> None:
        """See `Task.require_fit`."""
        from sft_keras.data.class_weights import class_weights

        for stage in recipe.stages:
            class_weights(stage, info)

    def weighing(self, stage: Stage, info: DataInfo) -> Weighing:
        """See `Labelled.weighing`."""
        import tensorflow as tf

        from sft_keras.data.class_weights import class_weights

        weights = tf.constant(class_weights(stage, info), tf.float32)
        return lambda labels: tf.linalg.matvec(labels, weights)

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

    def output_watches(self, info: DataInfo) -> list[OutputWatch]:
        """See `Task.output_watches`."""
        from sft_keras.one_class import OneClassOnly

        return [OneClassOnly(info.class_names)]

    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """See `Task.evaluate`; `outputs` are probabilities, float32 [n, num_classes]."""
        from sft_keras.calibration import calibration
        from sft_keras.classification_metrics import classification_metrics

        labels = prepared.examples.labels
        return {
            **classification_metrics(outputs, labels, info.class_names, self.top_k, seed),
            "calibration": calibration(outputs, labels),
        }

    def temperature(self, outputs: np.ndarray, prepared: Prepared) -> float:
        """See `Task.temperature`."""
        from sft_keras.calibration import fit_temperature

        return fit_temperature(outputs, prepared.examples.labels)

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
