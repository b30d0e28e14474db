"""Extractive question answering as a task. Importing this module does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from typing_extensions import override

from sft_keras.core.errors import BackboneError
from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.base import Progress
from sft_keras.tasks.question_answering.examples import NUM_SPECIAL_TOKENS
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
    from sft_keras.tasks.question_answering.preprocess import Encode, Window
    from sft_keras.tasks.question_answering.targets import SpanTargets
    from sft_keras.tasks.question_answering.windows import Windows
    from sft_keras.tasks.signatures import ServingSignatures
    from sft_keras.text.encoder import TextEncoder

_SMOKE_QUESTION_LENGTH, _SMOKE_STRIDE = 16, 24  # tokens


@section
class QuestionAnswering(TextTask):
    """Extractive question answering: the answer is a span of the passage, or there is none.

    The model reads the question with its passage, a long passage in several overlapping windows of
    which the best answer counts. A batch is a batch of windows. Where several answers count as
    correct, the first is the training target. Source: Devlin et al. 2019, arXiv:1810.04805,
    sections 4.2 and 4.3.

    Example:

    >>> from sft_keras import Backbone, Data, Recipe, Stage
    >>> from sft_keras.tasks import QuestionAnswering
    >>> recipe = Recipe(
    ...     task=QuestionAnswering(sequence_length=256, doc_stride=96),
    ...     data=Data(source="squad:squad_v2", batch_size=32),
    ...     backbone=Backbone(preset="hub:bert_small_en_uncased"),
    ...     stages=(Stage(name="all", epochs=2, learning_rate=5e-5, unfreeze="all"),),
    ... )
    >>> recipe.task.faults()
    []

    Attributes:
      sequence_length: The largest number of tokens per window: the question, a stretch of the
        passage, and three special tokens.
      doc_stride: Number of passage tokens from the start of one window to that of the next.
      max_question_length: Longer questions are truncated to this many tokens.
      max_answer_length: The largest number of tokens in an answer.
      dropout: Dropout rate on the features of the tokens, 0 or more and below 1.
      no_answer_threshold: No answer is given if the score of "no answer" exceeds that of the best
        span by more than this. Used for the metrics and in the exported model, and ignored if every
        question of the data has an answer. The validation metrics name the best value as
        `best_threshold`; it is not applied by itself, so that the test split has no part in it.
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

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        for name in ("doc_stride", "max_question_length", "max_answer_length"):
            checks.at_least(name, 1)
        around = self.max_question_length + NUM_SPECIAL_TOKENS
        room = self.sequence_length - around  # for the passage
        checks.require(
            "sequence_length",
            room >= 1,
            f"above `task.max_question_length` + {NUM_SPECIAL_TOKENS} ({around}), to leave room "
            "for the passage",
        )
        checks.require(
            "doc_stride",
            room < 1 or self.doc_stride <= room,
            f"at most `task.sequence_length` - `task.max_question_length` - {NUM_SPECIAL_TOKENS} "
            f"({room}), or the windows skip parts of the passage",
        )
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "0 or more and below 1")
        return checks.faults

    @override
    def smoke_recipe(self, recipe: Recipe) -> Recipe:
        smoke = super().smoke_recipe(recipe)
        task = dataclasses.replace(
            cast("QuestionAnswering", smoke.task),
            max_question_length=min(self.max_question_length, _SMOKE_QUESTION_LENGTH),
            doc_stride=min(self.doc_stride, _SMOKE_STRIDE),
        )
        return dataclasses.replace(smoke, task=task)

    @override
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        from sft_keras.data.splits import build_splits
        from sft_keras.tasks.question_answering.source import list_questions

        return build_splits(list_questions(recipe.data, seed), recipe.data, seed)

    @override
    def build_backbone(self, recipe: Recipe) -> BuiltBackbone:
        """Build the recipe's backbone, with its weights and blocks.

        Raises:
          BackboneError: If it cannot be built, or if its tokenizer does not give the character
            offsets of its tokens.
        """
        if not self.encoder(recipe).has_offsets:
            raise BackboneError(
                "`backbone.preset` must have a WordPiece tokenizer for QuestionAnswering, because "
                "other tokenizers do not give the character offsets of their tokens. Received: "
                f"{recipe.backbone.preset!r}. Use BERT, DistilBERT or ELECTRA: hub:bert_..., "
                "hub:distil_bert_..., hub:electra_..., or hf: with the folder of such a model."
            )
        return super().build_backbone(recipe)

    @override
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        from sft_keras.tasks.question_answering.preprocess import prepare_questions

        encoder = self.encoder(recipe)
        return prepare_questions(
            splits.by_name(),
            encoder=encoder,
            encode=self._encode(encoder),
            progress=progress,
        )

    @override
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        lengths = f"{self.sequence_length} {self.doc_stride} {self.max_question_length}"
        return f"{recipe.backbone.preset} {lengths}"

    @override
    def describe_input(self, recipe: Recipe) -> str:
        return f"questions with passages, in windows of up to {self.sequence_length} tokens"

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.heads import token_head
        from sft_keras.models.staged import StagedModel

        head = token_head(backbone.model.output_shape[1:], outputs=2, dropout=self.dropout)
        return StagedModel(backbone=backbone, head=head, activation="linear")

    @override
    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        from sft_keras.data.pipeline import finished_training_batches, with_targets

        return finished_training_batches(prepared, recipe, stage, with_targets, skip)

    @override
    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        from sft_keras.data.pipeline import finished_batches, with_targets

        return finished_batches(prepared, recipe, with_targets)

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        from sft_keras.tasks.question_answering.targets import SpanCrossentropy

        return SpanCrossentropy()

    @override
    def training_metrics(self) -> list[keras.metrics.Metric]:
        """Return "accuracy", the share of windows with both start and end correct."""
        import keras

        from sft_keras.tasks.question_answering.targets import span_accuracy

        return [keras.metrics.MeanMetricWrapper(span_accuracy, name="accuracy")]

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Return the metrics of a split, see `question_answering_metrics`.

        "loss" is the mean over the windows. The test split has no "best_threshold".

        Args:
          outputs: Start and end logits, float32 [windows, positions, 2].
          prepared: The split.
          info: What is known of the data.
          seed: Seed of the bootstrap.
        """
        from sft_keras.tasks.question_answering.decode import decode_answers
        from sft_keras.tasks.question_answering.metrics import question_answering_metrics
        from sft_keras.tasks.question_answering.targets import mean_span_loss

        answers = decode_answers(outputs, _windows(prepared), self.max_answer_length)
        metrics = question_answering_metrics(answers, self._threshold(info), seed)
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
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        return "f1", metrics["f1"]["value"]

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.question_answering.decode import decode_answers
        from sft_keras.tasks.question_answering.metrics import answer_examples

        answers = decode_answers(outputs, _windows(prepared), self.max_answer_length)
        return answer_examples(answers, self._threshold(info))

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.question_answering.signatures import question_answering_signatures

        encoder = self.encoder(recipe)
        return question_answering_signatures(
            model,
            encoder,
            self._encode(encoder),
            max_answer_length=self.max_answer_length,
            no_answer_threshold=self._threshold(info),
        )

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return (
            "what makes windows of a passage, and an answer of their scores, is in the SavedModel "
            "alone, which is in `export`."
        )

    @override
    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        from sft_keras.tasks.question_answering.signatures import question_answering_samples

        return question_answering_samples(
            outputs, _windows(prepared), limit, self.max_answer_length
        )

    def _encode(self, encoder: TextEncoder) -> Encode:
        """Return the function from questions and passages to windows."""
        from sft_keras.tasks.question_answering.windows import sliding_windows

        def encode(questions: tf.Tensor, contexts: tf.Tensor) -> Windows:
            return sliding_windows(
                encoder,
                questions,
                contexts,
                doc_stride=self.doc_stride,
                max_question_length=self.max_question_length,
            )

        return encode

    def _threshold(self, info: DataInfo) -> float | None:
        """Return the no-answer threshold, or None if every question has an answer."""
        return self.no_answer_threshold if info.class_names else None


def _windows(prepared: Prepared) -> Sequence[Window]:
    return cast("Sequence[Window]", prepared.details)
