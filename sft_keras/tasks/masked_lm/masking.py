"""Dynamic masking for masked language modelling, as a pure function of a seed.

Of each text, 15 % of the tokens are prediction targets: 80 % of them are replaced by the mask
token, 10 % by a random token, and 10 % stay (Devlin et al. 2019, arXiv:1810.04805, section 3.1,
task 1). Training draws new targets in every epoch; evaluation always uses the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from sft_keras.backbones.text import MASK_POSITIONS
from sft_keras.data.pipeline import finished_batches, finished_training_batches
from sft_keras.data.prepared import Prepared
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage
from sft_keras.text.encoder import TextEncoder

IGNORE_INDEX = -1
"""The target at positions that count neither in the loss nor in the metrics."""

_RNG_ALGORITHM = "philox"  # the same numbers on every device
_MASK_BELOW, _RANDOM_BELOW = 0.8, 0.9
_UNIFORMS_PER_TOKEN = 3  # is it a target, by what is it replaced, by which random token
_TRAINING_SEED = 2**30  # keeps these seeds apart from those of the shuffling
# Independent of the recipe's seed: runs with different seeds are compared on the same targets.
_EVALUATION_SEED = (0, 2**31)

Masking = Callable[
    [dict[str, tf.Tensor], tf.Tensor, tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]
]
"""(inputs, each int32 [batch, tokens]; indices int64 [batch]; seed int64 [2]) -> (inputs with
"mask_positions" int32 [batch, positions]; targets int32 [batch, positions])."""


def build_masking(encoder: TextEncoder, mask_rate: float) -> Masking:
    """Return the function that masks the tokens of a batch of texts.

    The targets of a text depend only on the seed and the index of the text, not on its batch. They
    are the original ids at the masked positions; texts with fewer masked tokens than others in the
    batch are filled up with `IGNORE_INDEX`. Every text with at least one ordinary token has at
    least one target. Special tokens are never masked.

    Args:
      encoder: The encoder that made the tokens.
      mask_rate: Share of a text's tokens that become targets, between 0 and 1.
    """
    special, vocabulary_size = encoder.special, len(encoder.vocabulary())

    def mask(
        inputs: dict[str, tf.Tensor], indices: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        ids = inputs["token_ids"]
        width = tf.shape(ids)[1]
        is_ordinary = (ids != special.start) & (ids != special.end) & (inputs["padding_mask"] > 0)
        uniforms = _uniforms_per_text(indices, seed, encoder.sequence_length)[:, :, :width]
        num_ordinary = tf.reduce_sum(tf.cast(is_ordinary, tf.int32), axis=1)
        num_targets = _rounded_share(mask_rate, num_ordinary)
        # The most targets that a text of this width can have: few widths give few shapes.
        num_positions = _rounded_share(mask_rate, width)

        order = tf.argsort(tf.where(is_ordinary, uniforms[:, 0], 2.0), axis=1, stable=True)
        is_target = tf.argsort(order, axis=1) < num_targets[:, tf.newaxis]
        is_used = tf.sequence_mask(num_targets, num_positions)
        positions = tf.where(is_used, order[:, :num_positions], 0)
        targets = tf.where(is_used, tf.gather(ids, positions, batch_dims=1), IGNORE_INDEX)

        random_ids = tf.cast(uniforms[:, 2] * tf.cast(vocabulary_size, tf.float32), tf.int32)
        random_ids = tf.minimum(random_ids, vocabulary_size - 1)  # float32 may round up
        replacement = uniforms[:, 1]
        replaced = tf.where(replacement < _RANDOM_BELOW, random_ids, ids)
        replaced = tf.where(replacement < _MASK_BELOW, special.mask, replaced)
        masked_ids = tf.where(is_target, replaced, ids)
        return {**inputs, "token_ids": masked_ids, MASK_POSITIONS: positions}, targets

    return mask


def masked_training_batches(
    prepared: Prepared, masking: Masking, recipe: Recipe, stage: Stage, skip: int = 0
) -> tf.data.Dataset:
    """Return the training batches of a stage, epoch after epoch without end.

    The targets of a text depend only on the recipe's seed, the stage, the epoch and the position of
    the text in the split.

    Args:
      prepared: The training split.
      masking: See `build_masking`.
      recipe: The recipe.
      stage: The stage to train.
      skip: Number of batches to skip, for a resumed run.

    Returns:
      A dataset of (inputs, targets), see `Masking`.
    """
    stage_seed = tf.constant([recipe.seed, _TRAINING_SEED + recipe.number_of(stage)], tf.int64)

    def mask(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        epoch_seed = tf.random.experimental.stateless_fold_in(stage_seed, batch["epoch"])
        return masking(batch["input"], batch["index"], epoch_seed)

    return finished_training_batches(prepared, recipe, stage, mask, skip)


def masked_evaluation_batches(
    prepared: Prepared, masking: Masking, recipe: Recipe
) -> tf.data.Dataset:
    """Return (inputs, targets) batches in stored order, with the same targets every time."""
    seed = tf.constant(_EVALUATION_SEED, tf.int64)

    def mask(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return masking(batch["input"], batch["index"], seed)

    return finished_batches(prepared, recipe, mask)


def _rounded_share(share: float, counts: tf.Tensor) -> tf.Tensor:
    """Return `share` of each count as an integer, at least 1 where the count is not 0."""
    exact = share * tf.cast(counts, tf.float32)
    return tf.minimum(tf.maximum(tf.cast(tf.floor(exact + 0.5), tf.int32), 1), counts)


def _uniforms_per_text(indices: tf.Tensor, seed: tf.Tensor, width: int) -> tf.Tensor:
    """Return uniforms in [0, 1), float32 [batch, 3, width], each text with a seed of its own."""

    def uniforms(index: tf.Tensor) -> tf.Tensor:
        text_seed = tf.random.experimental.stateless_fold_in(seed, index)
        return tf.random.stateless_uniform(
            [_UNIFORMS_PER_TOKEN, width], text_seed, alg=_RNG_ALGORITHM
        )

    spec = tf.TensorSpec([_UNIFORMS_PER_TOKEN, width])
    return tf.map_fn(uniforms, indices, fn_output_signature=spec)
