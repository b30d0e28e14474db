"""Multi-label text classification."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.core.errors import DataError
from sft_keras.data.examples import DataInfo, Examples, Splits
from sft_keras.data.prepared import Prepared
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.class_weights import positive_weights
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.labelled_batches import LabelledObjective, SampleWeighting
from sft_keras.tasks.parts import Evaluator
from sft_keras.tasks.text_classification.base import SupervisedTextTask
from sft_keras.tasks.text_classification.config import TextMultiLabel
from sft_keras.tasks.text_classification.examples import label_set_examples
from sft_keras.tasks.text_classification.multi_label_metrics import (
    LabelwiseCrossentropy,
    decision_accuracy,
    multi_label_metrics,
    true_labels,
)
from sft_keras.tasks.text_signatures import multi_label_outputs
from sft_keras.text.labels import LabelKind, MultiLabelKind


class TextMultiLabelTask(SupervisedTextTask[TextMultiLabel]):
    """Classification of texts, or of pairs of texts, with any number of labels each."""

    activation: ClassVar = "sigmoid"

    @override
    def open_data(self, seed: int) -> Splits:
        splits = super().open_data(seed)
        if not splits.info.num_classes:
            raise DataError(f"No text of {splits.info.source!r} has a label to learn.")
        return splits

    @override
    def label_kind(self) -> LabelKind:
        return MultiLabelKind(self.config.label_separator)

    @override
    def targets(self, examples: Examples) -> np.ndarray:
        return true_labels(examples).astype(np.float32)

    @override
    def postprocess(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return multi_label_outputs(self.info.class_names, self.config.threshold)(outputs)

    @functools.cached_property
    @override
    def objective(self) -> MultiLabelObjective:
        return MultiLabelObjective(self.info, self.config.threshold)

    @functools.cached_property
    @override
    def evaluator(self) -> _Evaluator:
        return _Evaluator(self.info, self.config.threshold, self.recipe.seed)


class MultiLabelObjective(LabelledObjective):
    """Binary cross-entropy per label, weighted by `Stage.class_weights`."""

    def __init__(self, info: DataInfo, threshold: float) -> None:
        """`threshold` is the probability above which a label counts as predicted."""
        self._info, self._threshold = info, threshold

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        return LabelwiseCrossentropy(from_logits=True, label_smoothing=stage.label_smoothing)

    @override
    def metrics(self) -> list[keras.metrics.Metric]:
        return [decision_accuracy(self._threshold)]

    @override
    def check(self, stage: Stage) -> None:
        positive_weights(stage, self._info)

    @override
    def training_weights(self, stage: Stage) -> SampleWeighting:
        weights = tf.constant(positive_weights(stage, self._info), tf.float32)
        return lambda labels: tf.where(labels > 0, weights, 1.0)


class _Evaluator(Evaluator):
    """Multi-label metrics; outputs are probabilities, float32 [n, num_classes]."""

    def __init__(self, info: DataInfo, threshold: float, seed: int) -> None:
        self._info, self._threshold, self._seed = info, threshold, seed

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        truth, names = true_labels(prepared.examples), self._info.class_names
        return multi_label_metrics(outputs, truth, names, self._threshold, self._seed)

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        micro = metrics["micro_f1"]
        return (
            f"micro F1 {micro['value']:.4f} (95 % interval {micro['low']:.4f} to "
            f"{micro['high']:.4f}), macro F1 {metrics['macro_f1']['value']:.4f}, all labels right "
            f"{metrics['exact_match']['value']:.4f}, {metrics['examples']} examples"
        )

    @override
    def report_examples(self, outputs: np.ndarray, prepared: Prepared) -> ReportExamples:
        return label_set_examples(outputs, prepared, self._info.class_names, self._threshold)
