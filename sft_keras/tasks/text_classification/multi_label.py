"""Any number of labels a text, or a pair of texts. Importing this does not import TensorFlow."""

from __future__ import annotations

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
    """None, one or several labels out of `num_classes` for each text, or for each pair of texts.

    Each label is a decision of its own: a sigmoid and binary cross-entropy, whose mean over all
    labels is the loss. "accuracy" in training is the share of these decisions that are right; as
    most labels of a text do not apply, it is high from the start.

    `Stage.class_weights` is here how much more a text that has a label counts for that label than
    one without: {label: weight}, or "balanced" for the number of training texts without it by that
    of those with it. `Stage.label_smoothing` moves each target towards a half.

    Splits are made stratified by the rarest label of each text.

    Attributes:
      threshold: A label is given where its probability is above.
      label_separator: What stands between the labels of a text where they are one string; lists
        (of JSON lines, Parquet and `Texts`) are taken as they are. Nothing, or an empty list, means
        that no label applies.

    The others are those of `SupervisedTextTask`.
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

        return examples.occurrences.astype(np.float32)

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
        """`outputs` are probabilities, float32 [n, num_classes]."""
        from sft_keras.tasks.text_classification.multi_label_metrics import multi_label_metrics

        truth = prepared.examples.occurrences > 0
        return multi_label_metrics(outputs, truth, info.class_names, self.threshold, seed)

    @override
    def summary(self, metrics: dict[str, Any]) -> str:
        micro = metrics["micro_f1"]
        return (
            f"micro F1 {micro['value']:.4f} (95 % interval {micro['low']:.4f} to "
            f"{micro['high']:.4f}), macro F1 {metrics['macro_f1']['value']:.4f}, all labels right "
            f"{metrics['exact_match']['value']:.4f}, {metrics['examples']} examples"
        )

    @override
    def score(self, metrics: dict[str, Any]) -> tuple[str, float]:
        return "micro_f1", metrics["micro_f1"]["value"]

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.text_classification.examples import label_set_examples

        return label_set_examples(outputs, prepared, info.class_names, self.threshold)

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.text_signatures import any_labels, text_signatures

        answer = any_labels(info.class_names, self.threshold)
        return text_signatures(model, self.encoder(recipe), info, answer)
