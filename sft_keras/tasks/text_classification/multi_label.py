"""Multi-label text classification. Importing this does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.text_classification.base import SupervisedTextTask

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sft_keras.data.examples import DataInfo, Examples, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.labelled_batches import SampleWeighting
    from sft_keras.tasks.signatures import ServingSignatures
    from sft_keras.text.labels import LabelKind


@section
class TextMultiLabel(SupervisedTextTask):
    """Classification of texts, or of pairs of texts, with any number of labels each.

    Each label is a binary decision with a sigmoid; the loss is binary cross-entropy, averaged over
    examples and labels. "accuracy" in training is the share of correct decisions. It is high from
    the start, since most labels do not apply to a text.

    `Stage.class_weights` weights positive against negative examples per label: {label: weight}, or
    "balanced" for negatives / positives in the training split. `Stage.label_smoothing` moves
    targets towards 0.5.

    Splits that are created are stratified by each text's rarest label. The other attributes are
    those of `SupervisedTextTask`.

    Attributes:
      threshold: Labels with probabilities above it are predicted, in (0, 1).
      label_separator: Separates labels that are given as one string. Lists (JSON lines, Parquet and
        `Texts`) need none. An empty string or list means that no label applies.

    Example:

        >>> from sft_keras.tasks import TextMultiLabel
        >>> TextMultiLabel(threshold=0.3, label_separator="|").faults()
        []
        >>> TextMultiLabel(threshold=1.5).faults()
        ['`task.threshold` must be above 0 and below 1. Received: 1.5.']
    """

    activation: ClassVar = "sigmoid"

    threshold: float = 0.5
    label_separator: str = ","

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.require("threshold", 0.0 < self.threshold < 1.0, "above 0 and below 1")
        checks.require("label_separator", bool(self.label_separator.strip()), "text, as ',' or '|'")
        return [*super().faults(), *checks.faults]

    @override
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        from sft_keras.core.errors import DataError

        splits = super().open_data(recipe, seed)
        if not splits.info.num_classes:
            raise DataError(f"No text of {splits.info.source!r} has a label to learn.")
        return splits

    @override
    def check_against_data(self, recipe: Recipe, info: DataInfo) -> None:
        from sft_keras.tasks.class_weights import positive_weights

        for stage in recipe.stages:
            positive_weights(stage, info)

    @override
    def label_kind(self) -> LabelKind:
        from sft_keras.text.labels import MultiLabelKind

        return MultiLabelKind(self.label_separator)

    @override
    def targets(self, examples: Examples) -> np.ndarray:
        import numpy as np

        from sft_keras.tasks.text_classification.multi_label_metrics import true_labels

        return true_labels(examples).astype(np.float32)

    @override
    def sample_weighting(self, stage: Stage, info: DataInfo) -> SampleWeighting:
        import tensorflow as tf

        from sft_keras.tasks.class_weights import positive_weights

        weights = tf.constant(positive_weights(stage, info), tf.float32)
        return lambda labels: tf.where(labels > 0, weights, 1.0)

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        from sft_keras.tasks.text_classification.multi_label_metrics import LabelwiseCrossentropy

        return LabelwiseCrossentropy(from_logits=True, label_smoothing=stage.label_smoothing)

    @override
    def training_metrics(self) -> list[keras.metrics.Metric]:
        from sft_keras.tasks.text_classification.multi_label_metrics import decision_accuracy

        return [decision_accuracy(self.threshold)]

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Return multi-label metrics; `outputs` are probabilities, float32 [n, num_classes]."""
        from sft_keras.tasks.text_classification.multi_label_metrics import (
            multi_label_metrics,
            true_labels,
        )

        truth = true_labels(prepared.examples)
        return multi_label_metrics(outputs, truth, info.class_names, self.threshold, seed)

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        micro = metrics["micro_f1"]
        return (
            f"micro F1 {micro['value']:.4f} (95 % interval {micro['low']:.4f} to "
            f"{micro['high']:.4f}), macro F1 {metrics['macro_f1']['value']:.4f}, all labels right "
            f"{metrics['exact_match']['value']:.4f}, {metrics['examples']} examples"
        )

    @override
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        return "micro_f1", metrics["micro_f1"]["value"]

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.text_classification.examples import label_set_examples

        return label_set_examples(outputs, prepared, info.class_names, self.threshold)

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.text_signatures import multi_label_outputs, text_signatures

        postprocess = multi_label_outputs(info.class_names, self.threshold)
        return text_signatures(model, self.encoder(recipe), info, postprocess)
