"""The configurations of text classification and regression. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from typing_extensions import override

from sft_keras.recipe.metric import LOSS, Metric
from sft_keras.recipe.section import Checks, section, section_faults
from sft_keras.tasks.predictions import (
    Prediction,
    ServedOutputs,
    class_predictions,
    label_set_predictions,
    number_predictions,
)
from sft_keras.tasks.text_config import INT8_LIMITATION, TextTaskConfig
from sft_keras.text.augment_config import TextAugment
from sft_keras.text.clean_config import Clean

_ROOM = "sft_keras.tasks.text_classification"


@section
class SupervisedTextConfig(TextTaskConfig):
    """One label, label set or number per text, or per pair of texts.

    Attributes:
      sequence_length: Maximum number of tokens per example, special tokens included. Longer ones
        are truncated at the end; batches are padded only to their own longest example.
      pooling: The features of a text: the "mean" over its tokens, the "first" token's, or the
        backbone's own "pooled" output, for backbones pretrained with one.
      dropout: Dropout rate of the pooled features in training, in [0, 1).
      hidden: Units of additional Dense layers (ReLU) between the pooled features and the last one.
      clean: Cleaning of all texts of the source.
      augment: Random augmentation of training texts.
    """

    sources: ClassVar[tuple[str, ...]] = (
        *("csv", "tsv", "jsonl", "parquet", "folder"),
        *("synthetic", "Texts"),
    )

    sequence_length: int = 128
    pooling: Literal["mean", "first", "pooled"] = "mean"
    dropout: float = 0.1
    hidden: tuple[int, ...] = ()
    clean: Clean = dataclasses.field(default_factory=Clean)
    augment: TextAugment = dataclasses.field(default_factory=TextAugment)

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("sequence_length", 4)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        checks.require("hidden", all(units > 0 for units in self.hidden), "numbers above 0")
        return [
            *checks.faults,
            *section_faults("task.clean", self.clean),
            *section_faults("task.augment", self.augment),
        ]

    @override
    def augmentation_fingerprint(self) -> str:
        return "" if self.augment == TextAugment() else repr(self.augment)

    @override
    def without_augmentation(self) -> Self:
        return dataclasses.replace(self, augment=TextAugment())

    @override
    def drops_duplicates(self) -> bool:
        return self.clean.duplicates

    @override
    def keeping_duplicates(self) -> Self:
        return dataclasses.replace(self, clean=dataclasses.replace(self.clean, duplicates=False))


@section
class TextClassification(SupervisedTextConfig):
    """Classification of texts, or of pairs of texts, with one class each.

    The head is a softmax; the loss is cross-entropy. The other attributes are those of
    `SupervisedTextConfig`.

    Attributes:
      top_k: The k of top-k accuracy, which is omitted if there are at most k classes.

    Example:

        >>> from sft_keras.tasks import Clean, TextClassification
        >>> task = TextClassification(sequence_length=256, clean=Clean(html=True))
        >>> task.faults()
        []
    """

    implementation: ClassVar = f"{_ROOM}.single_label:TextClassificationTask"
    display: ClassVar = "class_scores"
    sources: ClassVar = ("tfds", *SupervisedTextConfig.sources)

    top_k: int = 5

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("top_k", 2)
        return [*super().faults(), *checks.faults]

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return INT8_LIMITATION if quantized else None

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return class_predictions(inputs, outputs)


@section
class TextMultiLabel(SupervisedTextConfig):
    """Classification of texts, or of pairs of texts, with any number of labels each.

    Each label is a binary decision with a sigmoid; the loss is binary cross-entropy, averaged over
    examples and labels. "accuracy" in training is the share of correct decisions. It is high from
    the start, since most labels do not apply to a text.

    `Stage.class_weights` weights positive against negative examples per label: {label: weight}, or
    "balanced" for negatives / positives in the training split. `Stage.label_smoothing` moves
    targets towards 0.5.

    Splits that are created are stratified by each text's rarest label. The other attributes are
    those of `SupervisedTextConfig`.

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

    implementation: ClassVar = f"{_ROOM}.multi_label:TextMultiLabelTask"
    display: ClassVar = "labels"
    score: ClassVar = Metric("micro_f1", label="micro F1", is_share=True)

    threshold: float = 0.5
    label_separator: str = ","

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.require("threshold", 0.0 < self.threshold < 1.0, "above 0 and below 1")
        checks.require("label_separator", bool(self.label_separator), "text, as ',', '|' or ' '")
        return [*super().faults(), *checks.faults]

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return label_set_predictions(inputs, outputs)


@section
class TextRegression(SupervisedTextConfig):
    """Regression of one number per text, or per pair of texts.

    The model predicts in the unit of the labels: the head's last layer multiplies by the standard
    deviation of the training labels and adds their mean (`DataInfo.facts["numbers"]`), so the
    trainable layers below it predict standardized numbers, which suits their initial weights. The
    loss is the mean squared error of standardized numbers, computed as that in the labels' unit
    with 1 / variance as sample weight. A learning rate thus means the same whatever the unit, and
    always predicting the mean costs 1. "mean_absolute_error" in training is in the labels' unit.

    Splits that are created are stratified by deciles of the labels. The attributes are those of
    `SupervisedTextConfig`.

    Example:

        >>> from sft_keras.tasks import TextRegression
        >>> task = TextRegression(sequence_length=64, pooling="first")
        >>> list(task.monitors())
        ['val_loss', 'val_mean_absolute_error']
    """

    implementation: ClassVar = f"{_ROOM}.regression:TextRegressionTask"
    display: ClassVar = "number"
    # A correlation is no judge: it is as high if all predictions are ten times too large.
    score: ClassVar = Metric("r2", label="R2")
    test_metrics: ClassVar = (Metric("pearson"), Metric("spearman"))
    training_metrics: ClassVar = (LOSS, Metric("mean_absolute_error", higher_is_better=False))
    unsupported_fields: ClassVar = ("class_weights", "label_smoothing")

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return number_predictions(inputs, outputs)
