"""The head of a masked language model, with its loss and the accuracy to watch in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from typing_extensions import override

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.layers import iter_layers
from sft_keras.models.losses import SelfWeightedLoss
from sft_keras.tasks.masked_lm.masking import IGNORE_INDEX

_LAYER_NORM_EPSILON = 1e-12  # as in BERT


def masked_lm_head(backbone: BuiltBackbone) -> keras.Model:
    """Return the model from hidden states to logits over the vocabulary.

    As in the code of Devlin et al. 2019, arXiv:1810.04805 (`get_masked_lm_output`): a dense layer
    with GELU, layer normalization, then the transposed token embedding and a bias. The embedding is
    shared with the backbone: it is trained or frozen with its block.

    Returns:
      A model from float [batch, positions, hidden] to float32 [batch, positions, vocabulary].
    """
    embedding = hub_backbone(backbone).token_embedding
    (owner,) = (layer for layer in backbone.model.layers if embedding in iter_layers(layer))
    features = keras.Input(backbone.model.output_shape[1:], name="features")
    x = keras.layers.Dense(embedding.output_dim, activation="gelu", name="transform")(features)
    x = keras.layers.LayerNormalization(epsilon=_LAYER_NORM_EPSILON, name="transform_norm")(x)
    logits = TiedLogits(owner, dtype="float32", name="logits")(x)
    return keras.Model(features, logits, name="head")


@keras.saving.register_keras_serializable("sft_keras")
class TiedLogits(keras.layers.Layer):
    """Logits over the vocabulary from the transposed token embedding, plus a bias.

    Maps float [..., hidden] to float [..., vocabulary]. Weight tying: Press & Wolf 2017,
    arXiv:1608.05859.
    """

    def __init__(self, owner: keras.Layer, **kwargs: Any) -> None:
        """Tie the layer to an embedding.

        Args:
          owner: The token embedding, or the layer of a network that contains it. The containing
            layer is needed for loading: a saved model resolves references to its own layers, but
            not to the sublayers inside them.
          **kwargs: Arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.owner = owner

    @override
    def build(self, shape: tuple[int | None, ...]) -> None:
        vocabulary_size = self._embedding().input_dim
        self.bias = self.add_weight(name="bias", shape=(vocabulary_size,), initializer="zeros")

    @override
    def call(self, inputs: Any) -> Any:
        table = keras.ops.cast(self._embedding().embeddings, inputs.dtype)
        return keras.ops.matmul(inputs, keras.ops.transpose(table)) + self.bias

    @override
    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self._embedding().input_dim)

    @override
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "owner": keras.saving.serialize_keras_object(self.owner)}

    @classmethod
    @override
    def from_config(cls, config: Mapping[str, Any]) -> TiedLogits:
        owner = keras.saving.deserialize_keras_object(config["owner"])
        return cls(**{**config, "owner": owner})

    def _embedding(self) -> Any:
        return getattr(self.owner, "token_embedding", self.owner)


class MaskedLoss(SelfWeightedLoss):
    """Cross-entropy averaged over all masked tokens of a batch.

    Targets are int [batch, positions], `IGNORE_INDEX` where unused; predictions are logits, float
    [batch, positions, vocabulary].
    """

    @override
    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one value per text, [batch], whose mean is the mean over all masked tokens."""
        ops = keras.ops
        is_used = ops.cast(ops.not_equal(y_true, IGNORE_INDEX), y_pred.dtype)
        losses = ops.sparse_categorical_crossentropy(
            ops.maximum(y_true, 0), y_pred, from_logits=True
        )
        used_share = ops.maximum(ops.mean(is_used), keras.config.epsilon())
        return ops.mean(losses * is_used, axis=-1) / used_share

    def total_weight(self, y_true: Any, counts: Any = None) -> Any:
        """Return the number of masked tokens, a scalar: the loss is the mean over that many.

        Args:
          y_true: The targets, int [batch, positions].
          counts: Float [batch], 1 for the texts to count and 0 for the others; None for all.
        """
        is_used = keras.ops.cast(keras.ops.not_equal(y_true, IGNORE_INDEX), "float32")
        return keras.ops.sum(is_used if counts is None else is_used * counts[:, None])


class MaskedAccuracy(keras.metrics.Mean):
    """Share of masked tokens whose target has the highest logit."""

    @override
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch; `sample_weight`, if any, is one weight per text, float [batch]."""
        ops = keras.ops
        is_correct = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), y_true.dtype), y_true)
        weights = ops.cast(ops.not_equal(y_true, IGNORE_INDEX), self.dtype)
        if sample_weight is not None:
            weights *= sample_weight[:, None]
        super().update_state(ops.cast(is_correct, self.dtype), sample_weight=weights)


def hub_backbone(backbone: BuiltBackbone) -> Any:
    """Return KerasHub's network, whose layers the backbone shares."""
    if backbone.hub_model is None:
        raise TypeError("the backbone must come from `build_text_backbone`")
    return backbone.hub_model
