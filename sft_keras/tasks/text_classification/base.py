"""Base class of text classification and regression. Does not import TensorFlow."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from sft_keras.recipe.section import Checks, section, section_faults
from sft_keras.tasks.base import Progress
from sft_keras.tasks.supervised import SupervisedTask
from sft_keras.tasks.text_base import TextTask
from sft_keras.text.augment_config import TextAugment
from sft_keras.text.clean_config import Clean

if TYPE_CHECKING:
    import numpy as np

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.backbones.text import Output
    from sft_keras.data.examples import DataInfo, Examples, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.tasks.labelled_batches import Augmentation
    from sft_keras.text.labels import LabelKind


@section
class SupervisedTextTask(TextTask, SupervisedTask):
    """One label, label set or number per text, or per pair of texts.

    Attributes:
      sequence_length: Maximum number of tokens per example, special tokens included. Longer ones
        are truncated at the end; batches are padded only to their own longest example.
      pooling: The features of a text: the "mean" over its tokens, the "first" token's, or the
        backbone's own "pooled" output, for backbones pretrained with one.
      dropout: Dropout rate of the pooled features in training, in [0, 1).
      hidden: Units of additional Dense layers (ReLU) between the pooled features and the last one.
      clean: Cleaning of all texts of the source.
      augment: Random augmentation of training texts.
    """

    sources: ClassVar[tuple[str, ...]] = ("csv", "tsv", "jsonl", "parquet", "synthetic", "Texts")
    activation: ClassVar[str]
    """Activation from logits to the model's outputs, see `StagedModel`."""

    sequence_length: int = 128
    pooling: Literal["mean", "first", "pooled"] = "mean"
    dropout: float = 0.1
    hidden: tuple[int, ...] = ()
    clean: Clean = dataclasses.field(default_factory=Clean)
    augment: TextAugment = dataclasses.field(default_factory=TextAugment)

    @abc.abstractmethod
    def label_kind(self) -> LabelKind:
        """Return how labels are parsed and encoded."""

    def targets(self, examples: Examples) -> np.ndarray | None:
        """Return y of each example, float32 [n, outputs], or None for one-hot labels."""
        return None

    def num_outputs(self, info: DataInfo) -> int:
        """Return the number of the model's outputs per text."""
        return info.num_classes

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("sequence_length", 4)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        checks.require("hidden", all(units > 0 for units in self.hidden), "numbers above 0")
        return [
            *checks.faults,
            *section_faults("task.clean", self.clean),
            *section_faults("task.augment", self.augment),
        ]

    @override
    def backbone_output(self) -> Output:
        return self.pooling

    @override
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        from sft_keras.data.splits import build_splits
        from sft_keras.text.sources.texts import list_texts

        listing = list_texts(recipe.data, self.clean, self.label_kind(), seed)
        return build_splits(listing, recipe.data, seed)

    @override
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        from sft_keras.data.features import InMemoryFeatures
        from sft_keras.text.preprocess import prepare_texts

        prepared = prepare_texts(
            splits.by_name(),
            encoder=self.encoder(recipe),
            sequence_length=self.sequence_length,
            progress=progress,
        )
        for name, split in prepared.items():
            targets = self.targets(split.examples)
            if targets is not None:
                prepared[name] = dataclasses.replace(
                    split, targets=InMemoryFeatures.from_arrays(targets)
                )
        return prepared

    @override
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        return (
            f"{recipe.backbone.preset} {self.sequence_length} {self.clean!r} "
            f"{self.label_kind()!r} {dict(recipe.data.columns)}"
        )

    @override
    def augmentation_fingerprint(self) -> str:
        return "" if self.augment == TextAugment() else repr(self.augment)

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.heads import classification_head
        from sft_keras.models.staged import StagedModel

        head = classification_head(
            backbone.model.output_shape[1:],
            num_classes=self.num_outputs(info),
            pooling="flatten",
            hidden=self.hidden,
            dropout=self.dropout,
        )
        return StagedModel(backbone=backbone, head=head, activation=self.activation)

    @override
    def augmentation(self, recipe: Recipe) -> Augmentation | None:
        from sft_keras.tasks.text_classification.augmentation import build_text_augmentation

        if not self.augmentation_fingerprint():
            return None
        return build_text_augmentation(self.augment, self.encoder(recipe).special)

    @override
    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        from sft_keras.tasks.text_signatures import text_samples

        return text_samples(prepared, limit), outputs[:limit]
