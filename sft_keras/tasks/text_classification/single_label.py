"""Text classification with one class per text."""

from __future__ import annotations

import functools
from typing import ClassVar

import tensorflow as tf
from typing_extensions import override

from sft_keras.tasks.single_label import SingleLabelEvaluator, SingleLabelObjective
from sft_keras.tasks.text_classification.base import SupervisedTextTask
from sft_keras.tasks.text_classification.config import TextClassification
from sft_keras.tasks.text_classification.examples import text_examples
from sft_keras.tasks.text_signatures import single_label_outputs
from sft_keras.text.labels import LabelKind, SingleLabelKind


class TextClassificationTask(SupervisedTextTask[TextClassification]):
    """Classification of texts, or of pairs of texts, with one class each."""

    activation: ClassVar = "softmax"

    @override
    def label_kind(self) -> LabelKind:
        return SingleLabelKind()

    @override
    def postprocess(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return single_label_outputs(self.info.class_names)(outputs)

    @functools.cached_property
    @override
    def objective(self) -> SingleLabelObjective:
        return SingleLabelObjective(self.info)

    @functools.cached_property
    @override
    def evaluator(self) -> SingleLabelEvaluator:
        return SingleLabelEvaluator(self.info, self.config.top_k, self.recipe.seed, text_examples)
