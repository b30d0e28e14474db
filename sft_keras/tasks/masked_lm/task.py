"""Masked tokens of texts are to be told; no labels. Importing it does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sft_keras.recipe.section import Checks, section, section_faults
from sft_keras.tasks.base import Progress
from sft_keras.tasks.text_base import TextTask
from sft_keras.text.clean_config import Clean

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.backbones.text import Output
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.distributed.devices import Devices
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.masked_lm.masking import Masking
    from sft_keras.tasks.masked_lm.metrics import MaskedAnswers
    from sft_keras.tasks.signatures import ServingSignatures

_PRESET = "preset"


@section
class MaskedLM(TextTask):
    """Masked language modelling: more pretraining, on the texts of a domain.

    Of each text a share of the tokens is to be told, most of them hidden (Devlin et al. 2019,
    arXiv:1810.04805, section 3.1; on a domain before a task: Gururangan et al. 2020,
    arXiv:2004.10964). Which ones is drawn anew in every epoch; for validation and test they are
    always the same. A run leaves a preset folder that other recipes take as a backbone.

    Attributes:
      sequence_length: The most tokens of an example, special ones included; the end of what is
        longer is cut off and not read. Batches are only as long as the longest of theirs.
      share: Of a text's tokens, those that are to be told.
      clean: What is done to the texts of the source.
    """

    sources: ClassVar = ("texts", "csv", "tsv", "jsonl", "parquet", "synthetic", "Texts")
    predict_argument: ClassVar = '"TEXT WITH A [MASK]"'
    pipeline_tag: ClassVar = "fill-mask"
    evaluates_before_training: ClassVar = True
    supports_views: ClassVar = False
    unsupported_fields: ClassVar = ("class_weights", "label_smoothing")

    sequence_length: int = 128
    share: float = 0.15
    clean: Clean = dataclasses.field(default_factory=Clean)

    def faults(self) -> list[str]:
        """See `Task.faults`."""
        checks = Checks("task", self)
        checks.at_least("sequence_length", 8)
        checks.require("share", 0.0 < self.share < 1.0, "a share above 0 and below 1")
        return [*checks.faults, *section_faults("task.clean", self.clean)]

    def backbone_output(self) -> Output:
        """See `TextTask.output`."""
        return "masked"

    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """See `Task.open_data`."""
        from sft_keras.data.splits import build_splits
        from sft_keras.tasks.masked_lm.source import list_unlabelled_texts

        listing = list_unlabelled_texts(recipe.data, self.clean, seed)
        return build_splits(listing, recipe.data, seed)

    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """See `Task.preprocess`; `Prepared.details` is the encoder that made the tokens."""
        from sft_keras.text.preprocess import prepare_texts

        encoder = self.encoder(recipe)
        found = prepare_texts(
            splits.by_name(),
            encoder=encoder,
            sequence_length=self.sequence_length,
            progress=progress,
        )
        return {
            name: dataclasses.replace(each, details=[encoder] * len(each.examples))
            for name, each in found.items()
        }

    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        """See `Task.preprocessing_fingerprint`."""
        return (
            f"{recipe.backbone.preset} {self.sequence_length} {self.clean!r} "
            f"{dict(recipe.data.columns)}"
        )

    def augmentation_fingerprint(self) -> str:
        """See `Task.augmentation_fingerprint`."""
        return f"masked {self.share}"

    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """See `Task.build_model`."""
        from sft_keras.models.staged import StagedModel
        from sft_keras.tasks.masked_lm.head import masked_lm_head

        return StagedModel(backbone=backbone, head=masked_lm_head(backbone), activation="softmax")

    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        """See `Task.training_batches`."""
        from sft_keras.tasks.masked_lm.masking import masked_training_batches

        return masked_training_batches(prepared, self._masking(prepared), recipe, stage, skip)

    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.evaluation_batches`."""
        from sft_keras.tasks.masked_lm.masking import masked_batches

        return masked_batches(prepared, self._masking(prepared), recipe)

    def loss(self, stage: Stage) -> keras.losses.Loss:
        """See `Task.loss`."""
        from sft_keras.tasks.masked_lm.head import MaskedLoss

        return MaskedLoss()

    def training_metrics(self) -> list[keras.metrics.Metric]:
        """See `Task.training_metrics`."""
        from sft_keras.tasks.masked_lm.head import MaskedAccuracy

        return [MaskedAccuracy(name="accuracy")]

    def predict_outputs(
        self, model: keras.Model, batches: tf.data.Dataset, devices: Devices
    ) -> MaskedAnswers:
        """See `Task.predict_outputs`."""
        from sft_keras.tasks.masked_lm.metrics import masked_answers

        return masked_answers(model, batches, devices)

    def evaluate(
        self, outputs: MaskedAnswers, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """See `Task.evaluate`."""
        from sft_keras.tasks.masked_lm.metrics import masked_lm_figures

        return masked_lm_figures(outputs, len(prepared.examples), seed)

    def summary(self, metrics: dict[str, Any]) -> str:
        """See `Task.summary`."""
        accuracy = metrics["accuracy"]
        return (
            f"loss {metrics['loss']:.4f} a masked token (perplexity {metrics['perplexity']:.1f}), "
            f"accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
            f"{accuracy['high']:.4f}), {metrics['tokens']} masked tokens of {metrics['examples']} "
            "texts"
        )

    def score(self, metrics: dict[str, Any]) -> tuple[str, float]:
        """See `Task.score`."""
        return "accuracy", metrics["accuracy"]["value"]

    def report_examples(
        self, outputs: MaskedAnswers, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """See `Task.report_examples`."""
        from sft_keras.tasks.masked_lm.metrics import masked_examples

        return masked_examples(outputs, prepared, _encoder(prepared).vocabulary())

    def save_artifacts(self, staged: StagedModel, recipe: Recipe, folder: Path) -> list[str]:
        """See `Task.save_artifacts`; writes the backbone and its tokenizer as a preset folder."""
        from sft_keras.tasks.masked_lm.preset import save_text_preset

        save_text_preset(staged.backbone, recipe.backbone, folder / _PRESET)
        return [
            "The backbone after this run is a preset that other recipes take as "
            f"--set=backbone.preset=hub:{folder / _PRESET}"
        ]

    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        """See `Task.signatures`."""
        from sft_keras.tasks.masked_lm.signatures import mask_filling_signatures

        return mask_filling_signatures(model, self.encoder(recipe))

    def export_limitation(self, quantized: bool) -> str | None:
        """See `Task.export_limitation`."""
        return "it is made to train on from: its run left a preset folder for other recipes."

    def signature_samples(
        self, outputs: MaskedAnswers, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """See `Task.signature_samples`."""
        from sft_keras.tasks.masked_lm.signatures import gap_samples

        return gap_samples(outputs.model, _encoder(prepared), prepared, limit)

    def _masking(self, prepared: Prepared) -> Masking:
        from sft_keras.tasks.masked_lm.masking import build_masking

        return build_masking(_encoder(prepared), self.share)


def _encoder(prepared: Prepared) -> Any:
    return prepared.details[0]
