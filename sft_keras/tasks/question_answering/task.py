"""Answers to questions, out of a passage. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from sft_keras.core.errors import BackboneError
from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.base import Progress
from sft_keras.tasks.text_base import TextTask

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.question_answering.windows import Windows
    from sft_keras.tasks.signatures import ServingSignatures
    from sft_keras.text.encoder import TextEncoder

_AROUND = 3  # special tokens: [CLS] question [SEP] passage [SEP]
_SMOKE_QUESTION, _SMOKE_STRIDE = 16, 24  # tokens


@section
class QuestionAnswering(TextTask):
    """The part of a passage that answers a question, or that the passage does not say.

    A question is read with its passage; of a long one in several windows, which overlap, and of
    whose answers the best is given. A batch is one of windows. Where several answers count as
    right, the first is learnt.

    Source: Devlin et al. 2019, arXiv:1810.04805, sections 4.2 and 4.3.

    Attributes:
      sequence_length: The most tokens of a window: the question, a stretch of the passage, and
        three special ones.
      doc_stride: How many tokens of the passage after one window the next begins.
      max_question_length: The most tokens of a question; the end of a longer one is cut off.
      max_answer_length: The most tokens of an answer.
      dropout: Share of the features of a token dropped while training.
      no_answer_threshold: Where some questions have no answer: by how much the score of there being
        none must be above that of the best answer for none to be given. For the figures and the
        exported model alike. The figures of validation say which would be best, as
        `best_threshold`; a run has none but this, so that the test split has no part in it.
    """

    sources: ClassVar = ("squad", "synthetic", "Questions")
    predict_argument: ClassVar = '"QUESTION<TAB>PASSAGE"'
    pipeline_tag: ClassVar = "question-answering"
    smoke_source: ClassVar = "synthetic:30"
    unsupported_fields: ClassVar = ("class_weights", "label_smoothing")

    sequence_length: int = 384
    doc_stride: int = 128
    max_question_length: int = 64
    max_answer_length: int = 30
    dropout: float = 0.1
    no_answer_threshold: float = 0.0

    def faults(self) -> list[str]:
        """See `Task.faults`."""
        checks = Checks("task", self)
        for name in ("doc_stride", "max_question_length", "max_answer_length"):
            checks.at_least(name, 1)
        room = self.sequence_length - self.max_question_length - _AROUND
        checks.require(
            "sequence_length",
            room >= 1,
            f"above `task.max_question_length` + {_AROUND} ({self.max_question_length + _AROUND}), "
            "or there is no room for the passage",
        )
        checks.require(
            "doc_stride",
            room < 1 or self.doc_stride <= room,
            f"at most `task.sequence_length` - `task.max_question_length` - {_AROUND} ({room}), or "
            "parts of a passage are in no window",
        )
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        return checks.faults

    def smoke_recipe(self, recipe: Recipe) -> Recipe:
        """See `Task.smoke_recipe`."""
        smoke = super().smoke_recipe(recipe)
        task = dataclasses.replace(
            smoke.task,
            max_question_length=min(self.max_question_length, _SMOKE_QUESTION),
            doc_stride=min(self.doc_stride, _SMOKE_STRIDE),
        )
        return dataclasses.replace(smoke, task=task)

    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """See `Task.open_data`."""
        from sft_keras.data.splits import build_splits
        from sft_keras.tasks.question_answering.source import list_questions

        return build_splits(list_questions(recipe.data, seed), recipe.data, seed)

    def build_backbone(self, recipe: Recipe) -> BuiltBackbone:
        """See `Task.build_backbone`.

        Raises:
          BackboneError: As there, or if its tokenizer does not say where in a text its pieces are.
        """
        if not self.encoder(recipe).has_offsets:
            raise BackboneError(
                "`backbone.preset` must have a WordPiece tokenizer for QuestionAnswering, because "
                "of no other is it known where in a passage its tokens stand. Received: "
                f"{recipe.backbone.preset!r}. Take a BERT, DistilBERT or ELECTRA: hub:bert_..., "
                "hub:distil_bert_..., hub:electra_..., or hf: and a folder of such a model."
            )
        return super().build_backbone(recipe)

    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """See `Task.preprocess`."""
        from sft_keras.tasks.question_answering.preprocess import prepare_questions

        encoder = self.encoder(recipe)
        return prepare_questions(
            splits.by_name(),
            encoder=encoder,
            encode=self._encode(encoder),
            progress=progress,
        )

    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        """See `Task.preprocessing_fingerprint`."""
        lengths = f"{self.sequence_length} {self.doc_stride} {self.max_question_length}"
        return f"{recipe.backbone.preset} {lengths}"

    def describe_input(self, recipe: Recipe) -> str:
        """See `Task.describe_input`."""
        return f"questions with passages, in windows of up to {self.sequence_length} tokens"

    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """See `Task.build_model`."""
        from sft_keras.models.heads import token_head
        from sft_keras.models.staged import StagedModel

        head = token_head(backbone.model.output_shape[1:], outputs=2, dropout=self.dropout)
        return StagedModel(backbone=backbone, head=head, activation="linear")

    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        """See `Task.training_batches`."""
        from sft_keras.data.pipeline import finished_training_batches, with_targets

        return finished_training_batches(prepared, recipe, stage, with_targets, skip)

    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.evaluation_batches`."""
        from sft_keras.data.pipeline import finished_batches, with_targets

        return finished_batches(prepared, recipe, with_targets)

    def loss(self, stage: Stage) -> keras.losses.Loss:
        """See `Task.loss`."""
        from sft_keras.tasks.question_answering.targets import SpanCrossentropy

        return SpanCrossentropy()

    def training_metrics(self) -> list[keras.metrics.Metric]:
        """See `Task.training_metrics`; "accuracy" is the share of windows with both ends right."""
        import keras

        from sft_keras.tasks.question_answering.targets import span_accuracy

        return [keras.metrics.MeanMetricWrapper(span_accuracy, name="accuracy")]

    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """See `Task.evaluate` and `question_figures`; `outputs` are logits, [windows, places, 2].

        "loss" is the mean over the windows; of the test split there is no "best_threshold".
        """
        from sft_keras.tasks.question_answering.decode import question_answers
        from sft_keras.tasks.question_answering.metrics import question_figures
        from sft_keras.tasks.question_answering.targets import mean_span_loss

        answers = question_answers(outputs, prepared.details, self.max_answer_length)
        metrics = question_figures(answers, self._threshold(info), seed)
        if prepared.examples.name == "test":
            metrics.pop("best_threshold", None)
        return {**metrics, "loss": mean_span_loss(outputs, prepared.targets)}

    def summary(self, metrics: dict[str, Any]) -> str:
        """See `Task.summary`."""
        f1, exact = metrics["f1"], metrics["exact_match"]
        line = (
            f"F1 {f1['value']:.4f} (95 % interval {f1['low']:.4f} to {f1['high']:.4f}), "
            f"exact match {exact['value']:.4f}, {metrics['examples']} questions"
        )
        best = metrics.get("best_threshold")
        if best is not None:
            line += f"; task.no_answer_threshold={best['threshold']:.2f} gives F1 {best['f1']:.4f}"
        return line

    def score(self, metrics: dict[str, Any]) -> tuple[str, float]:
        """See `Task.score`."""
        return "f1", metrics["f1"]["value"]

    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """See `Task.report_examples`."""
        from sft_keras.tasks.question_answering.decode import question_answers
        from sft_keras.tasks.question_answering.metrics import answer_examples

        answers = question_answers(outputs, prepared.details, self.max_answer_length)
        return answer_examples(answers, self._threshold(info))

    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        """See `Task.signatures`."""
        from sft_keras.tasks.question_answering.signatures import question_signatures

        encoder = self.encoder(recipe)
        return question_signatures(
            model,
            encoder,
            self._encode(encoder),
            max_answer_length=self.max_answer_length,
            no_answer_threshold=self._threshold(info),
        )

    def export_limitation(self, quantized: bool) -> str | None:
        """See `Task.export_limitation`."""
        return (
            "what makes windows of a passage, and an answer of their scores, is in the SavedModel "
            "alone, which is in `export`."
        )

    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """See `Task.signature_samples`."""
        from sft_keras.tasks.question_answering.signatures import question_samples

        return question_samples(outputs, prepared.details, limit, self.max_answer_length)

    def _encode(self, encoder: TextEncoder) -> Callable[[tf.Tensor, tf.Tensor], Windows]:
        """Returns the function from questions and contexts to windows."""
        from sft_keras.tasks.question_answering.windows import windows

        def encode(questions: tf.Tensor, contexts: tf.Tensor) -> Windows:
            return windows(
                encoder,
                questions,
                contexts,
                doc_stride=self.doc_stride,
                max_question_length=self.max_question_length,
            )

        return encode

    def _threshold(self, info: DataInfo) -> float | None:
        """Returns the margin above which no answer is given; None where each question has one."""
        return self.no_answer_threshold if info.class_names else None
