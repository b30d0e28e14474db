"""A tag for each word: named entities. Importing this does not import TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

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
    """Finds entities in texts: stretches of words, each of one type.

    The first piece of each word carries its tag; other pieces count neither in the loss nor in
    figures (Devlin et al. 2019, arXiv:1810.04805, section 5.3).

    Attributes:
      sequence_length: The most tokens of a sentence, special ones included; entities beyond are not
        found. Batches are only as long as the longest of theirs.
      dropout: Share of the features of each token dropped while training.
    """

    pipeline_tag: ClassVar = "token-classification"
    sources: ClassVar = ("conll", "synthetic", "TaggedWords")
    smoke_source: ClassVar = "synthetic:2"
    unsupported_fields: ClassVar = ("class_weights",)

    sequence_length: int = 128
    dropout: float = 0.1

    def faults(self) -> list[str]:
        """See `Task.faults`."""
        checks = Checks("task", self)
        checks.at_least("sequence_length", 4)
        checks.require("dropout", 0.0 <= self.dropout < 1.0, "a share, 0 or more and below 1")
        return checks.faults

    def open_data(self, recipe: Recipe, seed: int) -> Splits:
        """See `Task.open_data`."""
        from sft_keras.data.splits import build_splits
        from sft_keras.tasks.token_classification.source import list_tagged

        return build_splits(list_tagged(recipe.data, seed), recipe.data, seed)

    def preprocess(self, splits: Splits, recipe: Recipe, progress: Progress) -> dict[str, Prepared]:
        """See `Task.preprocess`."""
        from sft_keras.tasks.token_classification.preprocess import prepare_words

        return prepare_words(splits.by_name(), self.encoder(recipe), progress)

    def preprocessing_fingerprint(self, recipe: Recipe) -> str:
        """See `Task.preprocessing_fingerprint`."""
        return f"{recipe.backbone.preset} {self.sequence_length}"

    def build_model(self, backbone: BuiltBackbone, info: DataInfo) -> StagedModel:
        """See `Task.build_model`."""
        from sft_keras.models.heads import token_head
        from sft_keras.models.staged import StagedModel

        head = token_head(
            backbone.model.output_shape[1:], outputs=len(_tags(info)), dropout=self.dropout
        )
        return StagedModel(backbone=backbone, head=head, activation="softmax")

    def training_batches(
        self,
        prepared: Prepared,
        recipe: Recipe,
        stage: Stage,
        info: DataInfo,
        skip: int = 0,
    ) -> tf.data.Dataset:
        """See `Task.training_batches`."""
        from sft_keras.data.pipeline import finished_training_batches
        from sft_keras.tasks.token_classification.preprocess import with_token_classes

        finish = with_token_classes(len(_tags(info)))
        return finished_training_batches(prepared, recipe, stage, finish, skip)

    def evaluation_batches(
        self, prepared: Prepared, recipe: Recipe, info: DataInfo
    ) -> tf.data.Dataset:
        """See `Task.evaluation_batches`."""
        from sft_keras.data.pipeline import finished_batches
        from sft_keras.tasks.token_classification.preprocess import with_token_classes

        return finished_batches(prepared, recipe, with_token_classes(len(_tags(info))))

    def loss(self, stage: Stage) -> keras.losses.Loss:
        """See `Task.loss`; the mean over the tokens of a batch that have a tag."""
        import keras

        return keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=stage.label_smoothing,
            reduction="mean_with_sample_weight",
        )

    def training_metrics(self) -> list[keras.metrics.Metric]:
        """See `Task.training_metrics`."""
        from sft_keras.tasks.token_classification.metrics import TokenAccuracy

        return [TokenAccuracy()]

    def evaluate(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo, seed: int
    ) -> dict[str, Any]:
        """See `Task.evaluate`; `outputs` are probabilities, float32 [n, tokens, tags]."""
        from sft_keras.tasks.token_classification.decode import predicted_tags, tag_loss, true_tags
        from sft_keras.tasks.token_classification.metrics import entity_metrics

        tags = _tags(info)
        predicted = predicted_tags(outputs, prepared, tags)
        metrics = entity_metrics(true_tags(prepared, tags), predicted, info.class_names, seed)
        return {**metrics, "loss": tag_loss(outputs, prepared)}

    def summary(self, metrics: dict[str, Any]) -> str:
        """See `Task.summary`."""
        f1 = metrics["f1"]
        return (
            f"entity F1 {f1['value']:.4f} (95 % interval {f1['low']:.4f} to {f1['high']:.4f}), "
            f"precision {metrics['precision']['value']:.4f}, recall "
            f"{metrics['recall']['value']:.4f}, {metrics['entities']} entities in "
            f"{metrics['examples']} sentences"
        )

    def score(self, metrics: dict[str, Any]) -> tuple[str, float]:
        """See `Task.score`."""
        return "f1", metrics["f1"]["value"]

    def report_examples(
        self, outputs: np.ndarray, prepared: Prepared, info: DataInfo
    ) -> ReportExamples:
        """See `Task.report_examples`; sentences with their entities marked."""
        from sft_keras.tasks.token_classification.decode import sentence_examples

        return sentence_examples(outputs, prepared, _tags(info))

    def signatures(self, model: keras.Model, recipe: Recipe, info: DataInfo) -> ServingSignatures:
        """See `Task.signatures`."""
        from sft_keras.tasks.token_classification.signatures import entity_signatures

        return entity_signatures(model, self.encoder(recipe), info.class_names, _tags(info))

    def export_limitation(self, quantized: bool) -> str | None:
        """See `Task.export_limitation`."""
        return INT8_LIMITATION if quantized else None

    def signature_samples(
        self, outputs: np.ndarray, prepared: Prepared, limit: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """See `Task.signature_samples`."""
        from sft_keras.tasks.token_classification.signatures import entity_samples

        return entity_samples(outputs, prepared, limit)


def _tags(info: DataInfo) -> tuple[str, ...]:
    from sft_keras.tasks.token_classification.source import tag_names

    return tag_names(info.class_names)
