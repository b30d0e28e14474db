"""The working half of extractive question answering."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.core.errors import BackboneError
from sft_keras.data.examples import Splits
from sft_keras.data.pipeline import finished_batches, finished_training_batches, with_targets
from sft_keras.data.prepared import Prepared
from sft_keras.data.splits import build_splits
from sft_keras.models.heads import token_head
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.parts import Batches, Evaluator, Exporter, Objective, Progress, Samples
from sft_keras.tasks.question_answering.config import QuestionAnswering
from sft_keras.tasks.question_answering.decode import decode_answers
from sft_keras.tasks.question_answering.metrics import answer_examples, question_answering_metrics
from sft_keras.tasks.question_answering.preprocess import Window, prepare_questions
from sft_keras.tasks.question_answering.signatures import (
    question_answering_samples,
    question_answering_signatures,
)
from sft_keras.tasks.question_answering.source import list_questions
from sft_keras.tasks.question_answering.targets import (
    SpanCrossentropy,
    SpanTargets,
    mean_span_loss,
    span_accuracy,
)
from sft_keras.tasks.question_answering.windows import Windows, sliding_windows
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.text_base import TextPreprocessor, TextTask


class QuestionAnsweringTask(TextTask[QuestionAnswering]):
    """Extractive question answering over windows of passages."""

    @property
    def threshold(self) -> float | None:
        """The no-answer threshold, or None if every question of the data has an answer."""
        return self.config.no_answer_threshold if self.info.class_names else None

    @override
    def open_data(self, seed: int) -> Splits:
        data = self.recipe.data
        return build_splits(list_questions(data, seed), data, seed)

    @override
    def build_backbone(self) -> BuiltBackbone:
        """Build the recipe's backbone, with its weights and blocks.

        Raises:
          BackboneError: If it cannot be built, or if its tokenizer does not give the character
            offsets of its tokens.
        """
        if not self.encoder.has_offsets:
            raise BackboneError(
                "`backbone.preset` must have a WordPiece tokenizer for QuestionAnswering, because "
                "other tokenizers do not give the character offsets of their tokens. Received: "
                f"{self.recipe.backbone.preset!r}. Use BERT, DistilBERT or ELECTRA: hub:bert_..., "
                "hub:distil_bert_..., hub:electra_..., or hf: with the folder of such a model."
            )
        return super().build_backbone()

    @override
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        shape = backbone.model.output_shape[1:]
        head = token_head(shape, outputs=2, dropout=self.config.dropout)
        return StagedModel(backbone=backbone, head=head, activation="linear")

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

    def encode(self, questions: tf.Tensor, contexts: tf.Tensor) -> Windows:
        """Return the windows of questions on passages, string [n] each; runs in a graph."""
        return sliding_windows(
            self.encoder,
            questions,
            contexts,
            doc_stride=self.config.doc_stride,
            max_question_length=self.config.max_question_length,
        )


class _Preprocessor(TextPreprocessor):
    def __init__(self, task: QuestionAnsweringTask) -> None:
        super().__init__(task)
        self._encode, self._config = task.encode, task.config

    @override
    def preprocess(self, splits: Splits, progress: Progress) -> dict[str, Prepared]:
        return prepare_questions(
            splits.by_name(),
            encoder=self._task.encoder,
            encode=self._encode,
            progress=progress,
        )

    @override
    def fingerprint(self) -> str:
        config = self._config
        lengths = f"{config.sequence_length} {config.doc_stride} {config.max_question_length}"
        return f"{self.recipe.backbone.preset} {lengths}"

    @override
    def describe_input(self) -> str:
        length = self._config.sequence_length
        return f"questions with passages, in windows of up to {length} tokens"


class _Objective(Objective):
    """Cross-entropy of start and end; "accuracy" is the share of windows with both correct."""

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        return SpanCrossentropy()

    @override
    def metrics(self) -> list[keras.metrics.Metric]:
        return [keras.metrics.MeanMetricWrapper(span_accuracy, name="accuracy")]


class _Batches(Batches):
    def __init__(self, task: QuestionAnsweringTask) -> None:
        self._recipe = task.recipe

    @override
    def training(self, prepared: Prepared, stage: Stage, skip: int = 0) -> tf.data.Dataset:
        return finished_training_batches(prepared, self._recipe, stage, with_targets, skip)

    @override
    def evaluation(self, prepared: Prepared) -> tf.data.Dataset:
        return finished_batches(prepared, self._recipe, with_targets)


class _Evaluator(Evaluator):
    """Answer metrics; outputs are start and end logits, float32 [windows, positions, 2]."""

    def __init__(self, task: QuestionAnsweringTask) -> None:
        self._threshold, self._seed = task.threshold, task.recipe.seed
        self._max_answer_length = task.config.max_answer_length

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        """Return the metrics of a split, see `question_answering_metrics`.

        "loss" is the mean over the windows. The test split has no "best_threshold".
        """
        answers = decode_answers(outputs, _windows(prepared), self._max_answer_length)
        metrics = question_answering_metrics(answers, self._threshold, self._seed)
        targets = cast("SpanTargets", prepared.targets)
        if prepared.examples.name == "test":
            metrics.pop("best_threshold", None)
        return {**metrics, "loss": mean_span_loss(outputs, targets)}

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        f1, exact = metrics["f1"], metrics["exact_match"]
        line = (
            f"F1 {f1['value']:.4f} (95 % interval {f1['low']:.4f} to {f1['high']:.4f}), "
            f"exact match {exact['value']:.4f}, {metrics['examples']} questions"
        )
        best = metrics.get("best_threshold")
        if best is not None:
            line += f"; task.no_answer_threshold={best['threshold']:.2f} gives F1 {best['f1']:.4f}"
        return line

    @override
    def report_examples(self, outputs: np.ndarray, prepared: Prepared) -> ReportExamples:
        answers = decode_answers(outputs, _windows(prepared), self._max_answer_length)
        return answer_examples(answers, self._threshold)


class _Exporter(Exporter):
    def __init__(self, task: QuestionAnsweringTask) -> None:
        self._task = task

    @override
    def signatures(self, model: keras.Model) -> ServingSignatures:
        task = self._task
        return question_answering_signatures(
            model,
            task.encoder,
            task.encode,
            max_answer_length=task.config.max_answer_length,
            no_answer_threshold=task.threshold,
        )

    @override
    def samples(self, outputs: np.ndarray, prepared: Prepared, limit: int) -> Samples:
        return question_answering_samples(
            outputs, _windows(prepared), limit, self._task.config.max_answer_length
        )


def _windows(prepared: Prepared) -> Sequence[Window]:
    return cast("Sequence[Window]", prepared.details)
