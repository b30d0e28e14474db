"""The head that says which tokens stood at masked places; its loss and what is watched of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.layers import iter_layers
from sft_keras.models.losses import SelfWeightedLoss
from sft_keras.tasks.masked_lm.masking import UNUSED

_EPSILON = 1e-12  # as in BERT


def masked_lm_head(backbone: BuiltBackbone) -> keras.Model:
    """Returns a model from float [batch, places, hidden] to logits float32 [batch, places, tokens].

    As in the code of Devlin et al. 2019, arXiv:1810.04805 (`get_masked_lm_output`): a dense layer
    with GELU, layer normalisation, then the transposed token embedding, which is the backbone's own
    and trains or is frozen with its block, and a bias.
    """
    embedding = backbone.hub_model.token_embedding
    (owner,) = (layer for layer in backbone.model.layers if embedding in iter_layers(layer))
    features = keras.Input(backbone.model.output_shape[1:], name="features")
    x = keras.layers.Dense(embedding.output_dim, activation="gelu", name="transform")(features)
    x = keras.layers.LayerNormalization(epsilon=_EPSILON, name="transform_norm")(x)
    logits = TiedLogits(owner, dtype="float32", name="logits")(x)
    return keras.Model(features, logits, name="head")


@keras.saving.register_keras_serializable("sft_keras")
class TiedLogits(keras.layers.Layer):
    """Logits over the vocabulary by the transposed token embedding (Press & Wolf 2017).

    Call arguments: float [..., hidden]. Returns float [..., tokens]. Source: arXiv:1608.05859.
    """

    def __init__(self, owner: keras.Layer, **kwargs: Any) -> None:
        """`owner` is the embedding, or the layer of a network that has it inside.

        The layer and not the embedding alone: in a saved model a layer of the network is known to
        be the one that is used here, and what is inside of one is not.
        """
        super().__init__(**kwargs)
        self.owner = owner

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the bias."""
        tokens = self._embedding().input_dim
        self.bias = self.add_weight(name="bias", shape=(tokens,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Returns the logits."""
        table = keras.ops.cast(self._embedding().embeddings, inputs.dtype)
        return keras.ops.matmul(inputs, keras.ops.transpose(table)) + self.bias

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the logits."""
        return (*shape[:-1], self._embedding().input_dim)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "owner": keras.saving.serialize_keras_object(self.owner)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TiedLogits:
        """Returns the layer, tied to that of the network it is loaded with."""
        owner = keras.saving.deserialize_keras_object(config["owner"])
        return cls(**{**config, "owner": owner})

    def _embedding(self) -> Any:
        return getattr(self.owner, "token_embedding", self.owner)


class MaskedLoss(SelfWeightedLoss):
    """Negative log-likelihood: the mean over the places that are used, of all texts of a batch.

    Takes targets, int [batch, places], `UNUSED` where there is none, and logits.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns a value a text, such that their mean is that over used places of all."""
        ops = keras.ops
        used = ops.cast(ops.not_equal(y_true, UNUSED), y_pred.dtype)
        each = ops.sparse_categorical_crossentropy(ops.maximum(y_true, 0), y_pred, from_logits=True)
        share = ops.maximum(ops.mean(used), keras.config.epsilon())
        return ops.mean(each * used, axis=-1) / share

    def total_weight(self, y_true: Any, counts: Any = None) -> Any:
        """Returns how many places are used, a scalar: of so many the loss is the mean.

        Of all texts, or of those whose `counts`, [batch], are 1 and not 0.
        """
        used = keras.ops.cast(keras.ops.not_equal(y_true, UNUSED), "float32")
        return keras.ops.sum(used if counts is None else used * counts[:, None])


class MaskedAccuracy(keras.metrics.Mean):
    """The share of used places at which the target has the highest logit."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts the places of a batch."""
        ops = keras.ops
        right = ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), y_true.dtype), y_true)
        used = ops.cast(ops.not_equal(y_true, UNUSED), self.dtype)
        if sample_weight is not None:
            used *= sample_weight[:, None]
        super().update_state(ops.cast(right, self.dtype), sample_weight=used)
