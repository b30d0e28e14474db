"""One label an image. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from sft_keras.recipe_checks import Checks, section, section_faults
from sft_keras.tasks.augment import Augment
from sft_keras.tasks.base import Progress, Task

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.backbones import BuiltBackbone
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.recipe import Recipe, Stage
    from sft_keras.staged_model import StagedModel

_SMOKE_IMAGE_SIZE = (96, 96)  # above the smallest that any backbone of the table takes
_SMOKE_BATCH_SIZE = 8


@section
class ImageClassification(Task):
    """One label out of `num_classes` for each image.

    Attributes:
      dropout: Share of the pooled features dropped while training.
      hidden: Units of further Dense layers (ReLU) between the pooled features and the logits.
      pooling: How the feature map becomes a vector: "average", "max", or "flatten" as it is.
      fit: How an image is brought to `backbone.image_size`: "stretch" it, "crop" the middle, or
        "pad" with black.
      augment: Random changes to training images.
      top_k: The k of top-k accuracy; left out where there are not more classes than that.
    """

    dropout: float = 0.2
    hidden: tuple[int, ...] = ()
    pooling: Literal["average", "max", "flatten"] = "average"
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    augment: Augment = dataclasses.field(default_factory=Augment)
    top_k: int = 5

    def faults(self) -> list[str]:
        """See `Task.faults`."""
        checks = Checks("task", self)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        checks.require("hidden", all(units > 0 for units in self.hidden), "numbers above 0")
        checks.at_least("top_k", 2)
        return [*checks.found, *section_faults("task.augment", self.augment)]

    def for_smoke(self, recipe: Recipe) -> Recipe:
        """See `Task.for_smoke`."""
        return dataclasses.replace(
            recipe,
            data=dataclasses.replace(
                recipe.data, source="synthetic:3", batch_size=_SMOKE_BATCH_SIZE
            ),
            backbone=dataclasses.replace(
                recipe.backbone, weights=None, image_size=_SMOKE_IMAGE_SIZE
            ),
            stages=tuple(map(_for_smoke, recipe.stages)),
        )

    def require_fit(self, recipe: Recipe, info: DataInfo) -> None:
        """See `Task.require_fit`."""
        from sft_keras.data.image_batches import class_weights

        for stage in recipe.stages:
            class_weights(stage, info)

    def prepare(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """See `Task.prepare`."""
        from sft_keras.data.store import prepare_images

        return prepare_images(
            {split.name: split for split in (splits.train, splits.validation, splits.test)},
            image_size=recipe.backbone.image_size,
            fit=self.fit,
            memory_share=recipe.data.memory_share,
            progress=progress,
        )

    def reads(self, recipe: Recipe) -> str:
        """See `Task.reads`."""
        return f"{self.fit} {recipe.backbone.image_size}"

    def drawn_at_random(self) -> str:
        """See `Task.drawn_at_random`."""
        return "" if self.augment == Augment() else repr(self.augment)

    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """See `Task.build_model`."""
        from sft_keras.heads import classification_head
        from sft_keras.staged_model import StagedModel

        head = classification_head(
            backbone.model.output_shape[1:],
            num_classes=info.num_classes,
            pooling=self.pooling,
            hidden=self.hidden,
            dropout=self.dropout,
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

    def training_batches(
        self, prepared: Prepared, recipe: Recipe, stage: Stage, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.training_batches`."""
        from sft_keras.data.image_batches import labelled_training_batches

        return labelled_training_batches(
            prepared,
            augment=self.augment,
            recipe=recipe,
            stage=stage,
            info=info,
        )

    def augmented_views(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo, views: int
    ) -> tf.data.Dataset:
        """See `Task.augmented_views`."""
        from sft_keras.data.image_batches import augmented_views

        return augmented_views(
            prepared, augment=self.augment, recipe=recipe, info=info, views=views
        )

    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.evaluation_batches`."""
        from sft_keras.data.image_batches import labelled_batches

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
        self, outputs: np.ndarray, labels: np.ndarray, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """See `Task.evaluate`; `outputs` are probabilities, float32 [n, num_classes]."""
        from sft_keras.classification_metrics import classification_metrics

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

    def worst_mistakes(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """See `Task.worst_mistakes`."""
        from sft_keras.mistakes import worst_image_mistakes

        return worst_image_mistakes(outputs, prepared, info.class_names)

    def endpoints(
        self, model: keras.Model, info: DataInfo
    ) -> Mapping[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]:
        """See `Task.endpoints`."""
        from sft_keras.image_serving import image_endpoints

        return image_endpoints(model, info.class_names, self.fit)

    def serving_samples(self, prepared: Prepared, limit: int) -> dict[str, np.ndarray]:
        """See `Task.serving_samples`."""
        from sft_keras.image_serving import image_samples

        return image_samples(prepared, limit)


def _for_smoke(stage: Stage) -> Stage:
    """Returns a stage of two updates; a range test would find nothing to go by in noise."""
    return dataclasses.replace(
        stage,
        epochs=None,
        steps=2 * stage.accumulate,
        class_weights=None,
        learning_rate=1e-3 if stage.learning_rate == "auto" else stage.learning_rate,
    )
