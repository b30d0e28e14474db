"""One label a text, or a pair of texts. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sft_keras.recipe_checks import Checks, section, section_faults
from sft_keras.tasks.base import Progress
from sft_keras.tasks.clean import Clean
from sft_keras.tasks.one_label import OneLabel
from sft_keras.tasks.text_augment import TextAugment
from sft_keras.tasks.text_task import TextTask

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sft_keras.backbones import BuiltBackbone
    from sft_keras.backbones.text import Output
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.labelled_batches import Augmentation
    from sft_keras.data.prepared import Prepared
    from sft_keras.endpoints import Endpoints
    from sft_keras.recipe import Recipe
    from sft_keras.staged_model import StagedModel


@section
class TextClassification(TextTask, OneLabel):
    """One label out of `num_classes` for each text, or for each pair of texts.

    Attributes:
      sequence_length: The most tokens of an example, special ones included; the end of what is
        longer is cut off. Batches are only as long as the longest of theirs.
      pooling: What of a text the head sees: the "mean" over its tokens, the "first" one, or what
        the backbone was trained to "pool" from that, where it was.
      dropout: Share of the pooled features dropped while training.
      hidden: Units of further Dense layers (ReLU) between the pooled features and the logits.
      clean: What is done to the texts of the source.
      augment: Random changes to training texts.
      top_k: The k of top-k accuracy; left out where there are not more classes than that.
    """

    sources: ClassVar = ("tfds", "csv", "tsv", "jsonl", "parquet", "synthetic", "Texts")

    sequence_length: int = 128
    pooling: Literal["mean", "first", "pooled"] = "mean"
    dropout: float = 0.1
    hidden: tuple[int, ...] = ()
    clean: Clean = dataclasses.field(default_factory=Clean)
    augment: TextAugment = dataclasses.field(default_factory=TextAugment)
    top_k: int = 5

    def faults(self) -> list[str]:
        """See `Task.faults`."""
        checks = Checks("task", self)
        checks.at_least("sequence_length", 4)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        checks.require("hidden", all(units > 0 for units in self.hidden), "numbers above 0")
        checks.at_least("top_k", 2)
        return [
            *checks.found,
            *section_faults("task.clean", self.clean),
            *section_faults("task.augment", self.augment),
        ]

    def output(self) -> Output:
        """See `TextTask.output`."""
        return self.pooling

    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """See `Task.open_data`."""
        from sft_keras.data.opening import splits_of
        from sft_keras.data.text_source import list_texts

        return splits_of(list_texts(recipe.data, self.clean, seed), recipe.data, seed)

    def prepare(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """See `Task.prepare`."""
        from sft_keras.text.preparing import prepare_texts

        return prepare_texts(
            {split.name: split for split in (splits.train, splits.validation, splits.test)},
            encoder=self.encoder(recipe),
            sequence_length=self.sequence_length,
            progress=progress,
        )

    def reads(self, recipe: Recipe) -> str:
        """See `Task.reads`."""
        return (
            f"{recipe.backbone.preset} {self.sequence_length} {self.clean!r} "
            f"{dict(recipe.data.columns)}"
        )

    def drawn_at_random(self) -> str:
        """See `Task.drawn_at_random`."""
        return "" if self.augment == TextAugment() else repr(self.augment)

    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """See `Task.build_model`."""
        from sft_keras.heads import classification_head
        from sft_keras.staged_model import StagedModel

        head = classification_head(
            backbone.model.output_shape[1:],
            num_classes=info.num_classes,
            pooling="flatten",
            hidden=self.hidden,
            dropout=self.dropout,
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

    def augmentation(self, recipe: Recipe) -> Augmentation | None:
        """See `OneLabel.augmentation`."""
        from sft_keras.text.augmentation import build_text_augmentation

        if not self.drawn_at_random():
            return None
        return build_text_augmentation(self.augment, self.encoder(recipe).special)

    def worst_mistakes(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """See `Task.worst_mistakes`; there are no pictures."""
        from sft_keras.mistakes import worst_text_mistakes

        return worst_text_mistakes(outputs, prepared, info.class_names), []

    def endpoints(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> Endpoints:
        """See `Task.endpoints`."""
        from sft_keras.text.serving import text_endpoints

        return text_endpoints(model, self.encoder(recipe), info)

    def serving_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """See `Task.serving_samples`."""
        from sft_keras.text.serving import text_samples

        return text_samples(prepared, limit), outputs[:limit]
