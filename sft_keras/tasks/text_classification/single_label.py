"""Text classification with one class per text. Importing this does not import TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.supervised import SingleLabelTask
from sft_keras.tasks.text_base import INT8_LIMITATION
from sft_keras.tasks.text_classification.base import SupervisedTextTask

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sft_keras.data.examples import DataInfo
    from sft_keras.data.prepared import Prepared
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.signatures import ServingSignatures
    from sft_keras.text.labels import LabelKind


@section
class TextClassification(SupervisedTextTask, SingleLabelTask):
    """Classification of texts, or of pairs of texts, with one class each.

    The head is a softmax; the loss is cross-entropy. The other attributes are those of
    `SupervisedTextTask`.

    Attributes:
      top_k: The k of top-k accuracy, which is omitted if there are at most k classes.

    Example:

        >>> from sft_keras.tasks import Clean, TextClassification
        >>> task = TextClassification(sequence_length=256, clean=Clean(html=True))
        >>> task.faults()
        []
    """

    sources: ClassVar = ("tfds", *SupervisedTextTask.sources)
    activation: ClassVar = "softmax"

    top_k: int = 5

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("top_k", 2)
        return [*super().faults(), *checks.faults]

    @override
    def label_kind(self) -> LabelKind:
        from sft_keras.text.labels import SingleLabelKind

        return SingleLabelKind()

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.text_classification.examples import text_examples

        return text_examples(outputs, prepared, info.class_names)

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.text_signatures import single_label_outputs, text_signatures

        postprocess = single_label_outputs(info.class_names)
        return text_signatures(model, self.encoder(recipe), info, postprocess)

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return INT8_LIMITATION if quantized else None
