"""The working half of token classification."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.data.examples import Splits
from sft_keras.data.pipeline import finished_batches, finished_training_batches
from sft_keras.data.prepared import Prepared
from sft_keras.data.splits import build_splits
from sft_keras.models.heads import token_head
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.parts import Batches, Evaluator, Exporter, Objective, Progress, Samples
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.text_base import TextPreprocessor, TextTask
from sft_keras.tasks.token_classification.config import TokenClassification
from sft_keras.tasks.token_classification.decode import (
    predicted_tags,
    sentence_examples,
    tag_loss,
    true_tags,
)
from sft_keras.tasks.token_classification.metrics import TokenAccuracy, entity_metrics
from sft_keras.tasks.token_classification.preprocess import (
    prepare_tagged_sentences,
    with_token_classes,
)
from sft_keras.tasks.token_classification.signatures import entity_samples, entity_signatures
from sft_keras.tasks.token_classification.source import list_tagged_sentences, tag_names
from sft_keras.tasks.token_classification.tag_schemes import TagFormat


class TokenClassificationTask(TextTask[TokenClassification]):
    """Named-entity recognition and other tagging of words."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in the order of the model's outputs, see `tag_names`."""
        return tag_names(self.info.class_names)

    @override
    def open_data(self, seed: int) -> Splits:
        data = self.recipe.data
        tag_format = TagFormat(self.config.tag_scheme, self.config.outside_tag)
        return build_splits(list_tagged_sentences(data, seed, tag_format), data, seed)

    @override
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        head = token_head(
            backbone.model.output_shape[1:], outputs=len(self.tags), dropout=self.config.dropout
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

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


class _Preprocessor(TextPreprocessor):
    @override
    def preprocess(self, splits: Splits, progress: Progress) -> dict[str, Prepared]:
        return prepare_tagged_sentences(splits.by_name(), self._task.encoder, progress)

    @override
    def fingerprint(self) -> str:
        return f"{self.recipe.backbone.preset} {self._task.config.sequence_length}"


class _Objective(Objective):
    """Cross-entropy averaged over the tokens of a batch that have a tag."""

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        return keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=stage.label_smoothing,
            reduction="mean_with_sample_weight",
        )

    @override
    def metrics(self) -> list[keras.metrics.Metric]:
        return [TokenAccuracy()]


class _Batches(Batches):
    def __init__(self, task: TokenClassificationTask) -> None:
        self._recipe, self._num_tags = task.recipe, len(task.tags)

    @override
    def training(self, prepared: Prepared, stage: Stage, skip: int = 0) -> tf.data.Dataset:
        finish = with_token_classes(self._num_tags)
        return finished_training_batches(prepared, self._recipe, stage, finish, skip)

    @override
    def evaluation(self, prepared: Prepared) -> tf.data.Dataset:
        return finished_batches(prepared, self._recipe, with_token_classes(self._num_tags))


class _Evaluator(Evaluator):
    """Entity metrics; outputs are probabilities of the tags, float32 [n, tokens, tags]."""

    def __init__(self, task: TokenClassificationTask) -> None:
        self._tags, self._types = task.tags, task.info.class_names
        self._seed = task.recipe.seed

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        predicted = predicted_tags(outputs, prepared, self._tags)
        true = true_tags(prepared, self._tags)
        metrics = entity_metrics(true, predicted, self._types, self._seed)
        return {**metrics, "loss": tag_loss(outputs, prepared)}

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        f1 = metrics["f1"]
        return (
            f"entity F1 {f1['value']:.4f} (95 % interval {f1['low']:.4f} to {f1['high']:.4f}), "
            f"precision {metrics['precision']['value']:.4f}, recall "
            f"{metrics['recall']['value']:.4f}, {metrics['entities']} entities in "
            f"{metrics['examples']} sentences"
        )

    @override
    def report_examples(self, outputs: np.ndarray, prepared: Prepared) -> ReportExamples:
        return sentence_examples(outputs, prepared, self._tags)


class _Exporter(Exporter):
    def __init__(self, task: TokenClassificationTask) -> None:
        self._task = task

    @override
    def output_names(self) -> Sequence[str]:
        return self._task.tags

    @override
    def signatures(self, model: keras.Model) -> ServingSignatures:
        task = self._task
        return entity_signatures(model, task.encoder, task.info.class_names, task.tags)

    @override
    def samples(self, outputs: np.ndarray, prepared: Prepared, limit: int) -> Samples:
        return entity_samples(outputs, prepared, limit)
