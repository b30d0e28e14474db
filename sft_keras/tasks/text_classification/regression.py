"""A number a text, or a pair of texts. Importing this does not import TensorFlow."""

from __future__ import annotations

import dataclasses
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
    """A number for each text, or for each pair of texts.

    The model answers in the unit of the labels: the head's last layer multiplies by the standard
    deviation of the training labels and adds their mean (`DataInfo.facts["numbers"]`), so that what
    is trained below it is of the size that weights begin with. The loss is the mean squared error
    of standardised numbers: that in the labels' unit, with one by their variance as the weight of
    every example, so that a learning rate means the same whatever the unit. 1 is what answering the
    mean would cost. "mean_absolute_error" in training is in the labels' unit.

    Splits are made stratified by the tenths of the training labels.

    Attributes: those of `SupervisedTextTask`.
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
        """The facts hold "numbers", of the training labels."""
        from sft_keras.core.errors import DataError

        splits = super().open_data(recipe, seed)
        labels = self.targets(splits.train).astype(float)
        if labels.min() == labels.max():
            raise DataError(
                f"All training texts of {splits.info.source!r} have the same label, "
                f"{labels.max():g}, so that there is nothing to learn."
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
        return np.concatenate([each["value"].numpy() for each in batches])[:, np.newaxis]

    @override
    def num_outputs(self, info: DataInfo) -> int:
        return 1

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.heads import rescaled

        staged = super().build_model(backbone, info)
        numbers = info.facts["numbers"]
        head = rescaled(staged.head, scale=numbers["deviation"], offset=numbers["mean"])
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
        """`outputs` are numbers, float32 [n, 1]."""
        from sft_keras.tasks.text_classification.regression_metrics import regression_metrics

        return regression_metrics(outputs[:, 0], _labels(prepared), _variance(info), seed)

    @override
    def summary(self, metrics: dict[str, Any]) -> str:
        r2 = metrics["r2"]
        return (
            f"R2 {r2['value']:.4f} (95 % interval {r2['low']:.4f} to {r2['high']:.4f}), "
            f"Pearson {metrics['pearson']['value']:.4f}, "
            f"mean absolute error {metrics['mean_absolute_error']:.4g}, "
            f"{metrics['examples']} examples"
        )

    @override
    def score(self, metrics: dict[str, Any]) -> tuple[str, float]:
        """R2, because it is what the loss says, turned round: a correlation is as high for answers
        that are too large, or ten times too large, throughout."""
        return "r2", metrics["r2"]["value"]

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """The largest errors."""
        from sft_keras.tasks.text_classification.examples import largest_errors

        return largest_errors(outputs[:, 0], _labels(prepared), prepared)

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.text_signatures import a_number, text_signatures

        signatures = text_signatures(model, self.encoder(recipe), info, a_number)
        numbers = info.facts["numbers"]
        # At least a hundredth of what the numbers are about: float32 has no more than seven digits.
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
    """Returns the labels of a split in stored order, float32 [n]."""
    import numpy as np

    return prepared.targets.take(np.arange(len(prepared.examples))).numpy()[:, 0]
