"""Token classification as a task. Importing this module does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from sft_keras.recipe.section import Checks, section
from sft_keras.tasks.base import Progress
from sft_keras.tasks.text_base import INT8_LIMITATION, TextTask

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from sft_keras.backbones.blocks import BuiltBackbone
    from sft_keras.data.examples import DataInfo, Splits
    from sft_keras.data.prepared import Prepared
    from sft_keras.models.staged import StagedModel
    from sft_keras.recipe.recipe import Recipe
    from sft_keras.recipe.stage import Stage
    from sft_keras.tasks.examples import ReportExamples
    from sft_keras.tasks.signatures import ServingSignatures


@section
class TokenClassification(TextTask):
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

    pipeline_tag: ClassVar = "token-classification"
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
    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        from sft_keras.data.splits import build_splits
        from sft_keras.tasks.token_classification.source import list_tagged_sentences
        from sft_keras.tasks.token_classification.tag_schemes import TagFormat

        tag_format = TagFormat(self.tag_scheme, self.outside_tag)
        return build_splits(list_tagged_sentences(recipe.data, seed, tag_format), recipe.data, seed)

    @override
    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        from sft_keras.tasks.token_classification.preprocess import prepare_tagged_sentences

        return prepare_tagged_sentences(splits.by_name(), self.encoder(recipe), progress)

    @override
    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        return f"{recipe.backbone.preset} {self.sequence_length}"

    @override
    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        from sft_keras.models.heads import token_head
        from sft_keras.models.staged import StagedModel

        head = token_head(
            backbone.model.output_shape[1:], outputs=len(_tags(info)), dropout=self.dropout
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

    @override
    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        from sft_keras.data.pipeline import finished_training_batches
        from sft_keras.tasks.token_classification.preprocess import with_token_classes

        finish = with_token_classes(len(_tags(info)))
        return finished_training_batches(prepared, recipe, stage, finish, skip)

    @override
    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        from sft_keras.data.pipeline import finished_batches
        from sft_keras.tasks.token_classification.preprocess import with_token_classes

        return finished_batches(prepared, recipe, with_token_classes(len(_tags(info))))

    @override
    def loss(self, stage: Stage) -> keras.losses.Loss:
        """Return the cross-entropy averaged over the tokens of a batch that have a tag."""
        import keras

        return keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=stage.label_smoothing,
            reduction="mean_with_sample_weight",
        )

    @override
    def training_metrics(self) -> list[keras.metrics.Metric]:
        from sft_keras.tasks.token_classification.metrics import TokenAccuracy

        return [TokenAccuracy()]

    @override
    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """Return the metrics of a split, see `entity_metrics`.

        Args:
          outputs: Probabilities of the tags, float32 [n, tokens, tags].
          prepared: The split.
          info: What is known of the data.
          seed: Seed of the bootstrap.
        """
        from sft_keras.tasks.token_classification.decode import predicted_tags, tag_loss, true_tags
        from sft_keras.tasks.token_classification.metrics import entity_metrics

        tags = _tags(info)
        predicted = predicted_tags(outputs, prepared, tags)
        metrics = entity_metrics(true_tags(prepared, tags), predicted, info.class_names, seed)
        return {**metrics, "loss": tag_loss(outputs, prepared)}

    @override
    def summary(self, metrics: Mapping[str, Any]) -> str:
        f1 = metrics["f1"]
        return (
            f"entity F1 {f1['value']:.4f} (95 % interval {f1['low']:.4f} to {f1['high']:.4f}), "
            f"precision {metrics['precision']['value']:.4f}, recall "
            f"{metrics['recall']['value']:.4f}, {metrics['entities']} entities in "
            f"{metrics['examples']} sentences"
        )

    @override
    def score(self, metrics: Mapping[str, Any]) -> tuple[str, float]:
        return "f1", metrics["f1"]["value"]

    @override
    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        from sft_keras.tasks.token_classification.decode import sentence_examples

        return sentence_examples(outputs, prepared, _tags(info))

    @override
    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        from sft_keras.tasks.token_classification.signatures import entity_signatures

        return entity_signatures(model, self.encoder(recipe), info.class_names, _tags(info))

    @override
    def export_limitation(self, quantized: bool) -> str | None:
        return INT8_LIMITATION if quantized else None

    @override
    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        from sft_keras.tasks.token_classification.signatures import entity_samples

        return entity_samples(outputs, prepared, limit)


def _tags(info: DataInfo) -> tuple[str, ...]:
    from sft_keras.tasks.token_classification.source import tag_names

    return tag_names(info.class_names)
