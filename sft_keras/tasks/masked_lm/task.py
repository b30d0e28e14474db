"""Masked language modelling as a task. Importing this module does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from typing_extensions import override

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
    from sft_keras.recipe.backbone import Backbone
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.masked_lm.masking import Masking
    from sft_keras.tasks.masked_lm.metrics import MaskedTokenPredictions
    from sft_keras.tasks.signatures import ServingSignatures
    from sft_keras.text.encoder import TextEncoder

_PRESET = "preset"


@section
class MaskedLM(TextTask):
    """Continued pretraining of a text backbone on the texts of a domain; needs no labels.

    A share of the tokens of each text becomes prediction targets, and most of them are masked
    (Devlin et al. 2019, arXiv:1810.04805, section 3.1; domain-adaptive pretraining before a task:
    Gururangan et al. 2020, arXiv:2004.10964). Training draws new targets in every epoch; validation
    and test always use the same ones. A run writes a preset folder that other recipes take as their
    backbone.

    Example:

    >>> from sft_keras import Backbone, Data, Recipe, Stage
    >>> from sft_keras.tasks import MaskedLM
    >>> recipe = Recipe(
    ...     task=MaskedLM(sequence_length=256),
    ...     data=Data(source="texts:abstracts.txt", batch_size=32),
    ...     backbone=Backbone(preset="hub:bert_small_en_uncased"),
    ...     stages=(Stage(name="all", epochs=3, learning_rate=1e-4, unfreeze="all"),),
    ... )
    >>> recipe.task.share
    0.15

    Attributes:
      sequence_length: The largest number of tokens per text, special tokens included; longer texts
        are truncated. Batches are only as long as the longest text in them.
      share: The share of a text's tokens that become targets.
      clean: How the texts are cleaned.
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

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("sequence_length", 8)
        checks.require("share", 0.0 < self.share < 1.0, "above 0 and below 1")
        return [*checks.faults, *section_faults("task.clean", self.clean)]

    @override
    def backbone_output(self) -> Output:
        return "masked"

    @override
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        from sft_keras.data.splits import build_splits
        from sft_keras.tasks.masked_lm.source import list_unlabelled_texts

        listing = list_unlabelled_texts(recipe.data, self.clean, seed)
        return build_splits(listing, recipe.data, seed)

    @override
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """Tokenize every text once; `Prepared.details` repeats the encoder for every text."""
        from sft_keras.text.preprocess import prepare_texts

        encoder = self.encoder(recipe)
        prepared_splits = prepare_texts(
            splits.by_name(),
            encoder=encoder,
            sequence_length=self.sequence_length,
            progress=progress,
        )
        return {
            name: dataclasses.replace(prepared, details=[encoder] * len(prepared.examples))
            for name, prepared in prepared_splits.items()
        }

    @override
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        return (
            f"{recipe.backbone.preset} {self.sequence_length} {self.clean!r} "
            f"{dict(recipe.data.columns)}"
        )

    @override
    def augmentation_fingerprint(self) -> str:
        return f"masked {self.share}"

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.staged import StagedModel
        from sft_keras.tasks.masked_lm.head import masked_lm_head

        return StagedModel(backbone=backbone, head=masked_lm_head(backbone), activation="softmax")

    @override
    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        from sft_keras.tasks.masked_lm.masking import masked_training_batches

        return masked_training_batches(prepared, self._masking(prepared), recipe, stage, skip)

    @override
    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        from sft_keras.tasks.masked_lm.masking import masked_evaluation_batches

        return masked_evaluation_batches(prepared, self._masking(prepared), recipe)

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        from sft_keras.tasks.masked_lm.head import MaskedLoss

        return MaskedLoss()

    @override
    def training_metrics(self) -> list[keras.metrics.Metric]:
        from sft_keras.tasks.masked_lm.head import MaskedAccuracy

        return [MaskedAccuracy(name="accuracy")]

    @override
    def predict_outputs(
        self, model: keras.Model, batches: tf.data.Dataset, devices: Devices
    ) -> MaskedTokenPredictions:
        from sft_keras.tasks.masked_lm.metrics import predict_masked_tokens

        return predict_masked_tokens(model, batches, devices)

    @override
    def evaluate(
        self, outputs: MaskedTokenPredictions, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        from sft_keras.tasks.masked_lm.metrics import masked_lm_metrics

        return masked_lm_metrics(outputs, len(prepared.examples), seed)

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        accuracy = metrics["accuracy"]
        return (
            f"loss {metrics['loss']:.4f} per masked token (perplexity "
            f"{metrics['perplexity']:.1f}), accuracy {accuracy['value']:.4f} (95 % interval "
            f"{accuracy['low']:.4f} to {accuracy['high']:.4f}), {metrics['tokens']} masked tokens "
            f"in {metrics['examples']} texts"
        )

    @override
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        return "accuracy", metrics["accuracy"]["value"]

    @override
    def report_examples(
        self, outputs: MaskedTokenPredictions, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.masked_lm.metrics import masked_token_examples

        return masked_token_examples(outputs, prepared, _encoder(prepared).vocabulary())

    @override
    def save_artifacts(self, staged: StagedModel, recipe: Recipe, folder: Path) -> list[str]:
        """Save the trained backbone and its tokenizer as a preset folder."""
        _save_preset(staged.backbone, recipe.backbone, folder / _PRESET)
        return [
            "Other recipes can use the trained backbone with "
            f"--set=backbone.preset=hub:{folder / _PRESET}"
        ]

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.masked_lm.signatures import fill_mask_signatures

        return fill_mask_signatures(model, self.encoder(recipe))

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return (
            "it is a backbone to fine-tune: use the preset folder in the run folder in another "
            "recipe."
        )

    @override
    def signature_samples(
        self, outputs: MaskedTokenPredictions, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        from sft_keras.tasks.masked_lm.signatures import fill_mask_samples

        return fill_mask_samples(outputs.model, _encoder(prepared), prepared, limit)

    def _masking(self, prepared: Prepared) -> Masking:
        from sft_keras.tasks.masked_lm.masking import build_masking

        return build_masking(_encoder(prepared), self.share)


def _encoder(prepared: Prepared) -> TextEncoder:
    """Return the encoder that made the tokens of a split."""
    return cast("list[TextEncoder]", prepared.details)[0]


def _save_preset(built: BuiltBackbone, backbone: Backbone, folder: Path) -> None:
    """Write the trained backbone and its tokenizer so that "hub:FOLDER" loads them.

    Args:
      built: The backbone, with the weights that it has now.
      backbone: The recipe's section that it was built from, which determines the tokenizer.
      folder: The folder to write, created if missing.
    """
    import keras_hub

    from sft_keras.backbones.text import text_preset, tiny_vocabulary
    from sft_keras.tasks.masked_lm.head import hub_backbone
    from sft_keras.text.encoder import load_hub_tokenizer

    if backbone.preset.startswith("tiny:"):
        tokenizer = keras_hub.models.BertTokenizer(list(tiny_vocabulary()), lowercase=True)
    else:
        tokenizer = load_hub_tokenizer(text_preset(backbone))
    hub_backbone(built).save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
