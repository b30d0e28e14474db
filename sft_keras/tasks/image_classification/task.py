"""The working half of image classification."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import numpy as np
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.build import build_backbone
from sft_keras.data.examples import Splits
from sft_keras.data.prepared import Prepared
from sft_keras.models.heads import classification_head
from sft_keras.models.staged import StagedModel
from sft_keras.tasks.base import Task
from sft_keras.tasks.image_classification.config import ImageClassification
from sft_keras.tasks.image_classification.examples import image_examples
from sft_keras.tasks.image_preprocessor import ImagePreprocessor
from sft_keras.tasks.image_signatures import image_samples, image_signatures
from sft_keras.tasks.labelled_batches import LabelledBatches
from sft_keras.tasks.parts import Exporter, Samples
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.single_label import SingleLabelEvaluator, SingleLabelObjective
from sft_keras.vision.augmentation import build_augmentation
from sft_keras.vision.sources.open import open_data


class ImageClassificationTask(Task[ImageClassification]):
    """Image classification with one class per image."""

    @override
    def open_data(self, seed: int) -> Splits:
        return open_data(self.recipe.data, seed)

    @override
    def build_backbone(self) -> BuiltBackbone:
        return build_backbone(self.recipe.backbone)

    @override
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        head = classification_head(
            backbone.model.output_shape[1:],
            num_classes=self.info.num_classes,
            pooling=self.config.pooling,
            hidden=self.config.hidden,
            dropout=self.config.dropout,
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

    @functools.cached_property
    @override
    def preprocessor(self) -> ImagePreprocessor:
        return ImagePreprocessor(self.recipe, self.config.fit, self.config.background)

    @functools.cached_property
    @override
    def objective(self) -> SingleLabelObjective:
        return SingleLabelObjective(self.info)

    @functools.cached_property
    @override
    def batches(self) -> LabelledBatches:
        augmentation = build_augmentation(self.config.augment)
        return LabelledBatches(self.recipe, self.info, self.objective, augmentation)

    @functools.cached_property
    @override
    def evaluator(self) -> SingleLabelEvaluator:
        return SingleLabelEvaluator(self.info, self.config.top_k, self.recipe.seed, image_examples)

    @functools.cached_property
    @override
    def exporter(self) -> Exporter:
        return _ImageExporter(self)


class _ImageExporter(Exporter):
    def __init__(self, task: ImageClassificationTask) -> None:
        self._task = task

    @override
    def output_names(self) -> Sequence[str]:
        return self._task.info.class_names

    @override
    def signatures(self, model: keras.Model) -> ServingSignatures:
        config = self._task.config
        return image_signatures(model, self._task.info.class_names, config.fit, config.background)

    @override
    def samples(self, outputs: np.ndarray, prepared: Prepared, limit: int) -> Samples:
        return image_samples(prepared, limit), outputs[:limit]
