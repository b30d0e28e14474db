"""Text regression."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.core.errors import DataError
from sft_keras.data.examples import Examples, Splits
from sft_keras.data.prepared import Prepared
from sft_keras.models.heads import rescale_outputs
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Stage
from sft_keras.tasks.examples import ReportExamples
from sft_keras.tasks.labelled_batches import LabelledObjective, SampleWeighting
from sft_keras.tasks.parts import Evaluator, Samples
from sft_keras.tasks.signatures import ServingSignatures
from sft_keras.tasks.text_classification.base import SupervisedTextTask, TextExporter
from sft_keras.tasks.text_classification.config import TextRegression
from sft_keras.tasks.text_classification.examples import largest_errors
from sft_keras.tasks.text_classification.regression_metrics import regression_metrics
from sft_keras.tasks.text_signatures import regression_outputs
from sft_keras.text.labels import LabelKind, NumericLabelKind

_BATCH = 1024


class TextRegressionTask(SupervisedTextTask[TextRegression]):
    """Regression of one number per text, or per pair of texts."""

    activation: ClassVar = "linear"

    @property
    def numbers(self) -> Mapping[str, float]:
        """Mean, deviation, lowest and highest of the training labels."""
        numbers: Mapping[str, float] = self.info.facts["numbers"]
        return numbers

    @override
    def label_kind(self) -> LabelKind:
        return NumericLabelKind()

    @override
    def open_data(self, seed: int) -> Splits:
        """Return the splits; `info.facts["numbers"]` describes the training labels."""
        splits = super().open_data(seed)
        labels = self.targets(splits.train).astype(float)
        if labels.min() == labels.max():
            raise DataError(
                f"All training texts of {splits.info.source!r} have the same label, "
                f"{labels.max():g}; there is nothing to learn."
            )
        numbers = {
            "mean": float(labels.mean()),
            "deviation": float(labels.std()),
            "lowest": float(labels.min()),
            "highest": float(labels.max()),
        }
        facts = {**splits.info.facts, "numbers": numbers}
        return dataclasses.replace(splits, info=dataclasses.replace(splits.info, facts=facts))

    @override
    def targets(self, examples: Examples) -> np.ndarray:
        return numeric_labels(examples)[:, np.newaxis]

    @override
    def num_outputs(self) -> int:
        return 1

    @override
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        staged, numbers = super().build_model(backbone), self.numbers
        head = rescale_outputs(staged.head, scale=numbers["deviation"], offset=numbers["mean"])
        return dataclasses.replace(staged, head=head)

    @override
    def postprocess(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return regression_outputs(outputs)

    @functools.cached_property
    @override
    def objective(self) -> _Objective:
        return _Objective(self.numbers["deviation"] ** 2)

    @functools.cached_property
    @override
    def evaluator(self) -> _Evaluator:
        return _Evaluator(self.numbers["deviation"] ** 2, self.recipe.seed)

    @functools.cached_property
    @override
    def exporter(self) -> _NumberExporter:
        return _NumberExporter(self)


class _Objective(LabelledObjective):
    """Mean squared error of standardized numbers, see `TextRegression`."""

    def __init__(self, variance: float) -> None:
        self._weight = 1 / variance

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        return keras.losses.MeanSquaredError()

    @override
    def metrics(self) -> list[keras.metrics.Metric]:
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]

    @override
    def training_weights(self, stage: Stage) -> SampleWeighting:
        return self.evaluation_weights()

    @override
    def evaluation_weights(self) -> SampleWeighting:
        return lambda labels: tf.fill(tf.shape(labels)[:1], self._weight)


class _Evaluator(Evaluator):
    """Regression metrics; outputs are numbers, float32 [n, 1]."""

    def __init__(self, variance: float, seed: int) -> None:
        self._variance, self._seed = variance, seed

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, temperature: float | None = None
    ) -> dict[str, Any]:
        return regression_metrics(outputs[:, 0], _labels(prepared), self._variance, self._seed)

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        r2 = metrics["r2"]
        return (
            f"R2 {r2['value']:.4f} (95 % interval {r2['low']:.4f} to {r2['high']:.4f}), "
            f"Pearson {metrics['pearson']['value']:.4f}, "
            f"mean absolute error {metrics['mean_absolute_error']:.4g}, "
            f"{metrics['examples']} examples"
        )

    @override
    def report_examples(self, outputs: np.ndarray, prepared: Prepared) -> ReportExamples:
        """Return the largest errors."""
        return largest_errors(outputs[:, 0], _labels(prepared), prepared)


class _NumberExporter(TextExporter):
    def __init__(self, task: TextRegressionTask) -> None:
        super().__init__(task)
        self._numbers = task.numbers

    @override
    def signatures(self, model: keras.Model) -> ServingSignatures:
        # At least 1 % of the mean, as float32 has only seven digits.
        unit = max(self._numbers["deviation"], abs(self._numbers["mean"]) / 100)
        return dataclasses.replace(super().signatures(model), compared="value", unit=unit)

    @override
    def samples(self, outputs: np.ndarray, prepared: Prepared, limit: int) -> Samples:
        return super().samples(outputs[:, 0], prepared, limit)


def numeric_labels(examples: Examples) -> np.ndarray:
    """Return the label of each example, float32 [n]."""
    batches = examples.stream(None).batch(_BATCH)
    return np.concatenate([batch["value"].numpy() for batch in batches])


def _labels(prepared: Prepared) -> np.ndarray:
    """Return the labels of a split in stored order, float32 [n]."""
    return prepared.require_targets().take(np.arange(len(prepared.examples))).numpy()[:, 0]
