"""Text regression. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from sft_keras.recipe.section import section
from sft_keras.tasks.text_classification.base import SupervisedTextTask

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.data.examples import DataInfo, Examples, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.labelled_batches import SampleWeighting
    from sft_keras.tasks.signatures import ServingSignatures
    from sft_keras.text.labels import LabelKind

_BATCH = 1024


@section
class TextRegression(SupervisedTextTask):
    """Regression of one number per text, or per pair of texts.

    The model predicts in the unit of the labels: the head's last layer multiplies by the standard
    deviation of the training labels and adds their mean (`DataInfo.facts["numbers"]`), so the
    trainable layers below it predict standardized numbers, which suits their initial weights. The
    loss is the mean squared error of standardized numbers, computed as that in the labels' unit
    with 1 / variance as sample weight. A learning rate thus means the same whatever the unit, and
    always predicting the mean costs 1. "mean_absolute_error" in training is in the labels' unit.

    Splits that are created are stratified by deciles of the labels. The attributes are those of
    `SupervisedTextTask`.

    Example:

        >>> from sft_keras.tasks import TextRegression
        >>> task = TextRegression(sequence_length=64, pooling="first")
        >>> task.monitors
        ('val_loss',)
    """

    activation: ClassVar = "linear"
    monitors: ClassVar = ("val_loss",)
    unsupported_fields: ClassVar = ("class_weights", "label_smoothing")

    @override
    def label_kind(self) -> LabelKind:
        from sft_keras.text.labels import NumericLabelKind

        return NumericLabelKind()

    @override
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """Return the splits; `info.facts["numbers"]` describes the training labels."""
        from sft_keras.core.errors import DataError

        splits = super().open_data(recipe, seed)
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
        import numpy as np

        batches = examples.stream(None).batch(_BATCH)
        return np.concatenate([batch["value"].numpy() for batch in batches])[:, np.newaxis]

    @override
    def num_outputs(self, info: DataInfo) -> int:
        return 1

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.heads import rescale_outputs

        staged = super().build_model(backbone, info)
        numbers = info.facts["numbers"]
        head = rescale_outputs(staged.head, scale=numbers["deviation"], offset=numbers["mean"])
        return dataclasses.replace(staged, head=head)

    @override
    def sample_weighting(self, stage: Stage, info: DataInfo) -> SampleWeighting:
        return self.validation_sample_weighting(info)

    @override
    def validation_sample_weighting(self, info: DataInfo) -> SampleWeighting:
        import tensorflow as tf

        weight = 1 / _variance(info)
        return lambda labels: tf.fill(tf.shape(labels)[:1], weight)

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        import keras

        return keras.losses.MeanSquaredError()

    @override
    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Return regression metrics; `outputs` are numbers, float32 [n, 1]."""
        from sft_keras.tasks.text_classification.regression_metrics import regression_metrics

        return regression_metrics(outputs[:, 0], _labels(prepared), _variance(info), seed)

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
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        """Return R2, which ranks as the loss does.

        A correlation is no judge: it is as high if all predictions are ten times too large.
        """
        return "r2", metrics["r2"]["value"]

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """Return the largest errors."""
        from sft_keras.tasks.text_classification.examples import largest_errors

        return largest_errors(outputs[:, 0], _labels(prepared), prepared)

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.text_signatures import regression_outputs, text_signatures

        signatures = text_signatures(model, self.encoder(recipe), info, regression_outputs)
        numbers = info.facts["numbers"]
        # At least 1 % of the mean, as float32 has only seven digits.
        unit = max(numbers["deviation"], abs(numbers["mean"]) / 100)
        return dataclasses.replace(signatures, compared="value", unit=unit)

    @override
    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        return super().signature_samples(outputs[:, 0], prepared, limit)


def _variance(info: DataInfo) -> float:
    return info.facts["numbers"]["deviation"] ** 2


def _labels(prepared: Prepared) -> np.ndarray:
    """Return the labels of a split in stored order, float32 [n]."""
    import numpy as np

    assert prepared.targets is not None, "`preprocess` sets the targets"
    return prepared.targets.take(np.arange(len(prepared.examples))).numpy()[:, 0]
