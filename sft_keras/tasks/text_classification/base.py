"""What the working halves of text classification and regression share."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.text import Output
from sft_keras.data.examples import Examples, Splits
from sft_keras.data.features import InMemoryFeatures
from sft_keras.data.prepared import Prepared
from sft_keras.data.splits import build_splits
from sft_keras.models.heads import classification_head
from sft_keras.models.staged import StagedModel
from sft_keras.tasks.labelled_batches import LabelledBatches, LabelledObjective
from sft_keras.tasks.parts import Exporter, Progress, Samples
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.text_base import TextPreprocessor, TextTask
from sft_keras.tasks.text_classification.augmentation import build_text_augmentation
from sft_keras.tasks.text_classification.config import SupervisedTextConfig
from sft_keras.tasks.text_signatures import text_samples, text_signatures
from sft_keras.text.labels import LabelKind
from sft_keras.text.preprocess import prepare_texts
from sft_keras.text.sources.texts import list_texts

Config_co = TypeVar("Config_co", bound=SupervisedTextConfig, covariant=True)


class SupervisedTextTask(TextTask[Config_co], abc.ABC):
    """One label, label set or number per text, or per pair of texts."""

    activation: ClassVar[str]
    """Activation from logits to the model's outputs, see `StagedModel`."""

    @abc.abstractmethod
    def label_kind(self) -> LabelKind:
        """Return how labels are parsed and encoded."""

    @abc.abstractmethod
    def postprocess(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the outputs of the signature for those of the model; runs in a graph."""

    def targets(self, examples: Examples) -> np.ndarray | None:
        """Return y of each example, float32 [n, outputs], or None for one-hot labels."""
        return None

    def num_outputs(self) -> int:
        """Return the number of the model's outputs per text."""
        return self.info.num_classes

    @override
    def backbone_output(self) -> Output:
        return self.config.pooling

    @override
    def open_data(self, seed: int) -> Splits:
        data = self.recipe.data
        listing = list_texts(data, self.config.clean, self.label_kind(), seed)
        return build_splits(listing, data, seed)

    @override
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        head = classification_head(
            backbone.model.output_shape[1:],
            num_classes=self.num_outputs(),
            pooling="flatten",
            hidden=self.config.hidden,
            dropout=self.config.dropout,
        )
        return StagedModel(backbone=backbone, head=head, activation=self.activation)

    @functools.cached_property
    @override
    def preprocessor(self) -> _Preprocessor:
        return _Preprocessor(self)

    @property
    @abc.abstractmethod
    @override
    def objective(self) -> LabelledObjective:
        """Loss, metrics and sample weights."""

    @functools.cached_property
    @override
    def batches(self) -> LabelledBatches:
        augmentation = None
        if self.config.augmentation_fingerprint():
            augmentation = build_text_augmentation(self.config.augment, self.encoder.special)
        return LabelledBatches(self.recipe, self.info, self.objective, augmentation)

    @functools.cached_property
    @override
    def exporter(self) -> TextExporter:
        return TextExporter(self)


class _Preprocessor(TextPreprocessor):
    def __init__(self, task: SupervisedTextTask[SupervisedTextConfig]) -> None:
        super().__init__(task)
        self._supervised = task

    @override
    def preprocess(self, splits: Splits, progress: Progress) -> dict[str, Prepared]:
        task = self._supervised
        prepared = prepare_texts(
            splits.by_name(),
            encoder=task.encoder,
            sequence_length=task.config.sequence_length,
            progress=progress,
        )
        for name, split in prepared.items():
            targets = task.targets(split.examples)
            if targets is not None:
                prepared[name] = dataclasses.replace(
                    split, targets=InMemoryFeatures.from_arrays(targets)
                )
        return prepared

    @override
    def fingerprint(self) -> str:
        config = self._supervised.config
        return (
            f"{self.recipe.backbone.preset} {config.sequence_length} {config.clean!r} "
            f"{self._supervised.label_kind()!r} {dict(self.recipe.data.columns)}"
        )


class TextExporter(Exporter):
    """One signature, from texts or pairs of texts to the outputs of `postprocess`."""

    def __init__(self, task: SupervisedTextTask[SupervisedTextConfig]) -> None:
        """`task` has the tokenizer and `postprocess`."""
        self._task = task

    @override
    def output_names(self) -> Sequence[str]:
        return self._task.info.class_names

    @override
    def signatures(self, model: keras.Model) -> ServingSignatures:
        task = self._task
        return text_signatures(model, task.encoder, task.info, task.postprocess)

    @override
    def samples(self, outputs: np.ndarray, prepared: Prepared, limit: int) -> Samples:
        return text_samples(prepared, limit), outputs[:limit]
