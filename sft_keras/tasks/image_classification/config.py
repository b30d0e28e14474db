"""The configuration of image classification. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from typing_extensions import override

from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import Checks, section, section_faults
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.tasks.predictions import Prediction, ServedOutputs, class_predictions
from sft_keras.tasks.smoke import smoke_stage
from sft_keras.vision.augment_config import Augment

_SMOKE_IMAGE_SIZE = (96, 96)  # above the minimum of every built-in backbone
_SMOKE_BATCH_SIZE = 8


@section
class ImageClassification(TaskConfig):
    """Image classification with one class per image.

    The head is pooling, dropout, optional hidden layers and a softmax; the loss is cross-entropy.

    Attributes:
      dropout: Dropout rate of the pooled features in training, in [0, 1).
      hidden: Units of additional Dense layers (ReLU) between the pooled features and the logits.
      pooling: How the feature map becomes a vector: "average", "max", or "flatten" all of it.
      fit: How images are resized to `backbone.image_size`: "stretch" them, "crop" the center, or
        "pad" with black.
      background: The colour behind transparent pixels: "white", "grey", "black", or "none" to drop
        the opacity and read the colours as they are stored.
      augment: Random augmentation of training images.
      top_k: The k of top-k accuracy, which is omitted if there are at most k classes.

    Example:

        >>> from sft_keras.tasks import Augment, ImageClassification
        >>> task = ImageClassification(dropout=0.5, fit="crop", augment=Augment(flip=True))
        >>> task.faults()
        []
    """

    implementation: ClassVar = "sft_keras.tasks.image_classification.task:ImageClassificationTask"
    modality: ClassVar = "image"
    display: ClassVar = "class_scores"
    sources: ClassVar = ("tfds", "folder", "csv", "digits", "synthetic", "Arrays")
    presets: ClassVar = ("keras", "hub", "bundled", "file")
    predict_argument: ClassVar = "FILE"
    pipeline_tag: ClassVar = "image-classification"
    service_sources: ClassVar = ("folder", "csv")

    dropout: float = 0.2
    hidden: tuple[int, ...] = ()
    pooling: Literal["average", "max", "flatten"] = "average"
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    background: Literal["white", "grey", "black", "none"] = "white"
    augment: Augment = dataclasses.field(default_factory=Augment)
    top_k: int = 5

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        checks.require("hidden", all(units > 0 for units in self.hidden), "numbers above 0")
        checks.at_least("top_k", 2)
        return [*checks.faults, *section_faults("task.augment", self.augment)]

    @override
    def smoke_recipe(self, recipe: Recipe) -> Recipe:
        return dataclasses.replace(
            recipe,
            data=dataclasses.replace(
                recipe.data, source="synthetic:3", batch_size=_SMOKE_BATCH_SIZE
            ),
            backbone=dataclasses.replace(
                recipe.backbone, weights=None, image_size=_SMOKE_IMAGE_SIZE
            ),
            stages=tuple(map(smoke_stage, recipe.stages)),
        )

    @override
    def augmentation_fingerprint(self) -> str:
        return "" if self.augment == Augment() else repr(self.augment)

    @override
    def without_augmentation(self) -> Self:
        return dataclasses.replace(self, augment=Augment())

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return None

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return class_predictions(inputs, outputs)
