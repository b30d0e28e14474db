"""The configuration of extractive question answering. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, cast

from typing_extensions import override

from sft_keras.recipe.metric import Metric
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.predictions import Prediction, ServedOutputs
from sft_keras.tasks.question_answering.examples import NUM_SPECIAL_TOKENS
from sft_keras.tasks.question_answering.predictions import answer_predictions
from sft_keras.tasks.text_config import TextTaskConfig

_SMOKE_QUESTION_LENGTH, _SMOKE_STRIDE = 16, 24  # tokens


@section
class QuestionAnswering(TextTaskConfig):
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

    implementation: ClassVar = "sft_keras.tasks.question_answering.task:QuestionAnsweringTask"
    display: ClassVar = "answer"
    sources: ClassVar = ("squad", "synthetic", "Questions")
    predict_argument: ClassVar = '"QUESTION<TAB>PASSAGE"'
    pipeline_tag: ClassVar = "question-answering"
    score: ClassVar = Metric("f1", label="F1", is_share=True)
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
    def export_limitation(self, quantized: bool) -> str | None:
        return (
            "windows of a passage are made, and their scores decoded, only in the SavedModel, "
            "which is in `export`."
        )

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return answer_predictions(inputs, outputs)
