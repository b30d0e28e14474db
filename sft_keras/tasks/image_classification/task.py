"""Image classification. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from sft_keras.recipe.section import Checks, section, section_faults
from sft_keras.tasks.base import Progress, smoke_stage
from sft_keras.tasks.supervised import SingleLabelTask
from sft_keras.vision.augment_config import Augment

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.labelled_batches import Augmentation
    from sft_keras.tasks.signatures import ServingSignatures

_SMOKE_IMAGE_SIZE = (96, 96)  # above the minimum of every built-in backbone
_SMOKE_BATCH_SIZE = 8


@section
class ImageClassification(SingleLabelTask):
    """Image classification with one class per image.

    The head is pooling, dropout, optional hidden layers and a softmax; the loss is cross-entropy.

    Attributes:
      dropout: Dropout rate of the pooled features in training, in [0, 1).
      hidden: Units of additional Dense layers (ReLU) between the pooled features and the logits.
      pooling: How the feature map becomes a vector: "average", "max", or "flatten" all of it.
      fit: How images are resized to `backbone.image_size`: "stretch" them, "crop" the center, or
        "pad" with black.
      augment: Random augmentation of training images.
      top_k: The k of top-k accuracy, which is omitted if there are at most k classes.

    Example:

        >>> from sft_keras.tasks import Augment, ImageClassification
        >>> task = ImageClassification(dropout=0.5, fit="crop", augment=Augment(flip=True))
        >>> task.faults()
        []
    """

    sources: ClassVar = ("tfds", "folder", "csv", "digits", "synthetic", "Arrays")
    presets: ClassVar = ("keras", "hub", "bundled")
    predict_argument: ClassVar = "FILE"
    pipeline_tag: ClassVar = "image-classification"
    service_sources: ClassVar = ("folder", "csv")

    dropout: float = 0.2
    hidden: tuple[int, ...] = ()
    pooling: Literal["average", "max", "flatten"] = "average"
    fit: Literal["stretch", "crop", "pad"] = "stretch"
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
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        from sft_keras.vision.sources.open import open_data

        return open_data(recipe.data, seed)

    @override
    def build_backbone(self, recipe: Recipe) -> BuiltBackbone:
        from sft_keras.backbones.build import build_backbone

        return build_backbone(recipe.backbone)

    @override
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        from sft_keras.vision.preprocess import prepare_images

        return prepare_images(
            splits.by_name(),
            image_size=recipe.backbone.image_size,
            fit=self.fit,
            memory_share=recipe.data.memory_share,
            progress=progress,
        )

    @override
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        return f"{self.fit} {recipe.backbone.image_size}"

    @override
    def describe_input(self, recipe: Recipe) -> str:
        height, width = recipe.backbone.image_size
        return f"images of {height} by {width} pixels (height by width)"

    @override
    def input_bytes(self, recipe: Recipe) -> int:
        height, width = recipe.backbone.image_size
        return height * width * 3

    @override
    def augmentation_fingerprint(self) -> str:
        return "" if self.augment == Augment() else repr(self.augment)

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.heads import classification_head
        from sft_keras.models.staged import StagedModel

        head = classification_head(
            backbone.model.output_shape[1:],
            num_classes=info.num_classes,
            pooling=self.pooling,
            hidden=self.hidden,
            dropout=self.dropout,
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

    @override
    def augmentation(self, recipe: Recipe) -> Augmentation | None:
        from sft_keras.vision.augmentation import build_augmentation

        return build_augmentation(self.augment)

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.image_classification.examples import image_examples

        return image_examples(outputs, prepared, info.class_names)

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.image_signatures import image_signatures

        return image_signatures(model, info.class_names, self.fit)

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return None

    @override
    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        from sft_keras.tasks.image_signatures import image_samples

        return image_samples(prepared, limit), outputs[:limit]
