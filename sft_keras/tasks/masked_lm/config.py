"""The configuration of masked language modelling. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

from typing_extensions import override

from sft_keras.recipe.section import Checks, section, section_faults
from sft_keras.tasks.predictions import Prediction, ServedOutputs, class_predictions
from sft_keras.tasks.text_config import TextTaskConfig
from sft_keras.text.clean_config import Clean


@section
class MaskedLM(TextTaskConfig):
    """Continued pretraining of a text backbone on the texts of a domain; needs no labels.

    A share of the tokens of each text becomes prediction targets, and most of them are masked
    (Devlin et al. 2019, arXiv:1810.04805, section 3.1; domain-adaptive pretraining before a task:
    Gururangan et al. 2020, arXiv:2004.10964). Training draws new targets in every epoch; validation
    and test always use the same ones. A run writes a preset folder that other recipes take as their
    backbone.

    Example:

    >>> from sft_keras import Backbone, Data, Recipe, Stage
    >>> from sft_keras.tasks import MaskedLM
    >>> recipe = Recipe(
    ...     task=MaskedLM(sequence_length=256),
    ...     data=Data(source="texts:abstracts.txt", batch_size=32),
    ...     backbone=Backbone(preset="hub:bert_small_en_uncased"),
    ...     stages=(Stage(name="all", epochs=3, learning_rate=1e-4, unfreeze="all"),),
    ... )
    >>> recipe.task.share
    0.15

    Attributes:
      sequence_length: The largest number of tokens per text, special tokens included; longer texts
        are truncated. Batches are only as long as the longest text in them.
      share: The share of a text's tokens that become targets.
      clean: How the texts are cleaned.
    """

    implementation: ClassVar = "sft_keras.tasks.masked_lm.task:MaskedLMTask"
    display: ClassVar = "class_scores"
    example: ClassVar = ("The train leaves at [MASK] in the morning.",)
    sources: ClassVar = ("texts", "csv", "tsv", "jsonl", "parquet", "synthetic", "Texts")
    predict_argument: ClassVar = '"TEXT WITH A [MASK]"'
    pipeline_tag: ClassVar = "fill-mask"
    evaluates_before_training: ClassVar = True
    supports_views: ClassVar = False
    unsupported_fields: ClassVar = ("class_weights", "label_smoothing")

    sequence_length: int = 128
    share: float = 0.15
    clean: Clean = dataclasses.field(default_factory=Clean)

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("sequence_length", 8)
        checks.require("share", 0.0 < self.share < 1.0, "above 0 and below 1")
        return [*checks.faults, *section_faults("task.clean", self.clean)]

    @override
    def drops_duplicates(self) -> bool:
        return self.clean.duplicates

    @override
    def keeping_duplicates(self) -> Self:
        return dataclasses.replace(self, clean=dataclasses.replace(self.clean, duplicates=False))

    @override
    def augmentation_fingerprint(self) -> str:
        return f"masked {self.share}"

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return (
            "it is a backbone to fine-tune: use the preset folder in the run folder in another "
            "recipe."
        )

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return class_predictions(inputs, outputs)
