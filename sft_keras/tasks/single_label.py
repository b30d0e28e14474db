"""Objective and evaluator of tasks with one class per example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.evaluation.calibration import apply_temperature, calibration, fit_temperature
from sft_keras.evaluation.classification import classification_metrics
from sft_keras.evaluation.output_monitors import CollapseMonitor, OutputMonitor
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.class_weights import class_weights
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.labelled_batches import LabelledObjective, SampleWeighting
from sft_keras.tasks.parts import Evaluator

ExamplesOf = Callable[[np.ndarray, Prepared, Sequence[str]], ReportExamples]
"""(probabilities float32 [n, num_classes], split, class names) -> examples for the report."""


class SingleLabelObjective(LabelledObjective):
    """Softmax cross-entropy, weighted by `Stage.class_weights`, and accuracy."""

    def __init__(self, info: DataInfo) -> None:
        """`info` has the class names and their counts."""
        self._info = info

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=stage.label_smoothing
        )

    @override
    def metrics(self) -> list[keras.metrics.Metric]:
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    @override
    def output_monitors(self) -> list[OutputMonitor]:
        return [CollapseMonitor(self._info.class_names)]

    @override
    def check(self, stage: Stage) -> None:
        class_weights(stage, self._info)

    @override
    def training_weights(self, stage: Stage) -> SampleWeighting:
        weights = tf.constant(class_weights(stage, self._info), tf.float32)
        return lambda labels: tf.linalg.matvec(labels, weights)


class SingleLabelEvaluator(Evaluator):
    """Classification metrics; outputs are class probabilities, float32 [n, num_classes]."""

    def __init__(self, info: DataInfo, top_k: int, seed: int, examples_of: ExamplesOf) -> None:
        """Build the evaluator.

        Args:
          info: Facts about the data.
          top_k: The k of top-k accuracy, which is omitted if there are at most k classes.
          seed: Seed of the bootstrap.
          examples_of: Returns the examples for the report.
        """
        self._info, self._top_k, self._seed = info, top_k, seed
        self._examples_of = examples_of

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        labels, names = prepared.examples.labels, self._info.class_names
        calibrated = calibration(outputs, labels)
        if temperature is not None:
            before = apply_temperature(outputs, 1 / temperature)
            calibrated |= {"temperature": temperature, "before": calibration(before, labels)}
        metrics = classification_metrics(outputs, labels, names, self._top_k, self._seed)
        return {**metrics, "calibration": calibrated}

    @override
    def temperature(self, outputs: np.ndarray, prepared: Prepared) -> float:
        return fit_temperature(outputs, prepared.examples.labels)

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        accuracy = metrics["accuracy"]
        return (
            f"accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
            f"{accuracy['high']:.4f}), macro F1 {metrics['macro']['f1']:.4f}, "
            f"{metrics['examples']} examples"
        )

    @override
    def report_examples(self, outputs: np.ndarray, prepared: Prepared) -> ReportExamples:
        return self._examples_of(outputs, prepared, self._info.class_names)
