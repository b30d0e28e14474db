"""The configuration of token classification. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from typing_extensions import override

from sft_keras.recipe.metric import Metric
from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.predictions import Prediction, ServedOutputs
from sft_keras.tasks.text_config import INT8_LIMITATION, TextTaskConfig
from sft_keras.tasks.token_classification.predictions import entity_predictions


@section
class TokenClassification(TextTaskConfig):
    """Named-entity recognition and other tagging of words: entities are typed spans of words.

    The first subtoken of each word carries its tag; the other subtokens count neither in the loss
    nor in the metrics (Devlin et al. 2019, arXiv:1810.04805, section 5.3).

    Example:

    >>> from sft_keras import Backbone, Data, Recipe, Stage
    >>> from sft_keras.tasks import TokenClassification
    >>> recipe = Recipe(
    ...     task=TokenClassification(sequence_length=96),
    ...     data=Data(source="conll:wnut17", batch_size=32),
    ...     backbone=Backbone(preset="hub:bert_small_en_uncased"),
    ...     stages=(Stage(name="all", epochs=5, learning_rate=5e-5, unfreeze="all"),),
    ... )
    >>> recipe.task.faults()
    []

    Attributes:
      sequence_length: The largest number of tokens per sentence, special tokens included; longer
        sentences are truncated and entities in the rest are not found. Batches are only as long as
        the longest sentence in them.
      dropout: Dropout rate on the features of the tokens, 0 or more and below 1.
      tag_scheme: "auto" detects IOB1, IOB2, IOBES (BIOES) and BILOU, whose tags are such as B-PER.
        "IO" reads tags without prefixes, such as PER: adjacent words of one type are one entity.
      outside_tag: The tag of words outside entities, in sources where it is not "O".
    """

    implementation: ClassVar = "sft_keras.tasks.token_classification.task:TokenClassificationTask"
    display: ClassVar = "marked_text"
    pipeline_tag: ClassVar = "token-classification"
    score: ClassVar = Metric("f1", label="entity F1", is_share=True)
    sources: ClassVar = ("conll", "synthetic", "TaggedWords")
    smoke_source: ClassVar = "synthetic:2"
    unsupported_fields: ClassVar = ("class_weights",)

    sequence_length: int = 128
    dropout: float = 0.1
    tag_scheme: Literal["auto", "IO"] = "auto"
    outside_tag: str = "O"

    @override
    def faults(self) -> list[str]:
        checks = Checks("task", self)
        checks.at_least("sequence_length", 4)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "0 or more and below 1")
        return checks.faults

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return INT8_LIMITATION if quantized else None

    @override
    def predictions(self, inputs: Sequence[str], outputs: ServedOutputs) -> list[Prediction]:
        return entity_predictions(inputs, outputs)
