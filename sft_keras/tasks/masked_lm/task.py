"""The working half of masked language modelling."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.text import Output, text_preset, tiny_vocabulary
from sft_keras.data.examples import Splits
from sft_keras.data.prepared import Prepared
from sft_keras.data.splits import build_splits
from sft_keras.distributed.devices import Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.masked_lm.config import MaskedLM
from sft_keras.tasks.masked_lm.head import (
    MaskedAccuracy,
    MaskedLoss,
    hub_backbone,
    masked_lm_head,
)
from sft_keras.tasks.masked_lm.masking import (
    build_masking,
    masked_evaluation_batches,
    masked_training_batches,
)
from sft_keras.tasks.masked_lm.metrics import (
    MaskedTokenPredictions,
    masked_lm_metrics,
    masked_token_examples,
    predict_masked_tokens,
)
from sft_keras.tasks.masked_lm.signatures import fill_mask_samples, fill_mask_signatures
from sft_keras.tasks.masked_lm.source import list_unlabelled_texts
from sft_keras.tasks.parts import Batches, Evaluator, Exporter, Objective, Progress, Samples
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.text_base import TextPreprocessor, TextTask
from sft_keras.text.encoder import load_hub_tokenizer
from sft_keras.text.preprocess import prepare_texts

_PRESET = "preset"


class MaskedLMTask(TextTask[MaskedLM]):
    """Continued pretraining of a text backbone on the texts of a domain."""

    @override
    def backbone_output(self) -> Output:
        return "masked"

    @override
    def open_data(self, seed: int) -> Splits:
        data = self.recipe.data
        return build_splits(list_unlabelled_texts(data, self.config.clean, seed), data, seed)

    @override
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        return StagedModel(backbone=backbone, head=masked_lm_head(backbone), activation="softmax")

    @functools.cached_property
    @override
    def preprocessor(self) -> _Preprocessor:
        return _Preprocessor(self)

    @functools.cached_property
    @override
    def objective(self) -> _Objective:
        return _Objective()

    @functools.cached_property
    @override
    def batches(self) -> _Batches:
        return _Batches(self)

    @functools.cached_property
    @override
    def evaluator(self) -> _Evaluator:
        return _Evaluator(self)

    @functools.cached_property
    @override
    def exporter(self) -> _Exporter:
        return _Exporter(self)

    @override
    def save_artifacts(self, staged: StagedModel, folder: Path) -> list[str]:
        """Save the trained backbone and its tokenizer as a preset folder."""
        _save_preset(staged.backbone, self.recipe.backbone, folder / _PRESET)
        return [
            "Other recipes can use the trained backbone with "
            f"--set=backbone.preset=hub:{folder / _PRESET}"
        ]


class _Preprocessor(TextPreprocessor):
    def __init__(self, task: MaskedLMTask) -> None:
        super().__init__(task)
        self._config = task.config

    @override
    def preprocess(self, splits: Splits, progress: Progress) -> dict[str, Prepared]:
        return prepare_texts(
            splits.by_name(),
            encoder=self._task.encoder,
            sequence_length=self._config.sequence_length,
            progress=progress,
        )

    @override
    def fingerprint(self) -> str:
        return (
            f"{self.recipe.backbone.preset} {self._config.sequence_length} "
            f"{self._config.clean!r} {dict(self.recipe.data.columns)}"
        )


class _Objective(Objective):
    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        return MaskedLoss()

    @override
    def metrics(self) -> list[keras.metrics.Metric]:
        return [MaskedAccuracy(name="accuracy")]


class _Batches(Batches):
    def __init__(self, task: MaskedLMTask) -> None:
        self._recipe = task.recipe
        self._masking = build_masking(task.encoder, task.config.share)

    @override
    def training(self, prepared: Prepared, stage: Stage, skip: int = 0) -> tf.data.Dataset:
        return masked_training_batches(prepared, self._masking, self._recipe, stage, skip)

    @override
    def evaluation(self, prepared: Prepared) -> tf.data.Dataset:
        return masked_evaluation_batches(prepared, self._masking, self._recipe)


class _Evaluator(Evaluator):
    def __init__(self, task: MaskedLMTask) -> None:
        self._task = task

    @override
    def predict(
        self, model: keras.Model, batches: tf.data.Dataset, devices: Devices
    ) -> MaskedTokenPredictions:
        return predict_masked_tokens(model, batches, devices)

    @override
    def evaluate(
        self, outputs: MaskedTokenPredictions, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        return masked_lm_metrics(outputs, len(prepared.examples), self._task.recipe.seed)

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
    def report_examples(
        self, outputs: MaskedTokenPredictions, prepared: Prepared
    ) -> ReportExamples:
        vocabulary = self._task.encoder.vocabulary()
        return masked_token_examples(outputs, prepared, vocabulary)


class _Exporter(Exporter):
    def __init__(self, task: MaskedLMTask) -> None:
        self._encoder = task.encoder

    @override
    def signatures(self, model: keras.Model) -> ServingSignatures:
        return fill_mask_signatures(model, self._encoder)

    @override
    def samples(self, outputs: MaskedTokenPredictions, prepared: Prepared, limit: int) -> Samples:
        return fill_mask_samples(outputs.model, self._encoder, prepared, limit)


def _save_preset(built: BuiltBackbone, backbone: Backbone, folder: Path) -> None:
    """Write the trained backbone and its tokenizer so that "hub:FOLDER" loads them.

    Args:
      built: The backbone, with the weights that it has now.
      backbone: The recipe's section that it was built from, which determines the tokenizer.
      folder: The folder to write, created if missing.
    """
    import keras_hub  # takes 5 s

    if backbone.preset.startswith("tiny:"):
        tokenizer = keras_hub.models.BertTokenizer(list(tiny_vocabulary()), lowercase=True)
    else:
        tokenizer = load_hub_tokenizer(text_preset(backbone))
    hub_backbone(built).save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
