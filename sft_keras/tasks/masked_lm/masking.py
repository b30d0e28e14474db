"""Masks tokens for a model to say what stood there, as a pure function of a seed.

Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1, task 1: of each text 15 % of the tokens
are to be told; 80 % of them are replaced by the mask token, 10 % by a random token, and 10 % stay.
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

UNUSED = -1
_ALGORITHM = "philox"  # the same on every device
_MASKED, _MASKED_OR_RANDOM = 0.8, 0.9
_DRAWS = 3  # a token: whether it is to be told, what stands for it, and which one if any

Masking = Callable[
    [dict[str, tf.Tensor], tf.Tensor, tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]
]
"""(inputs int32 [batch, tokens] each, indices int64 [batch], seed int64 [2]) -> (inputs with
"mask_positions" int32 [batch, places], targets int32 [batch, places])."""


def build_masking(encoder: TextEncoder, share: float) -> Masking:
    """Returns a function that masks tokens of texts.

    What is masked of a text depends on the seed and its index alone, and not on its batch. Targets
    are the ids that stood at the positions; of a text with fewer than there are places the last are
    `UNUSED`. Each text with any token of its own has one that is to be told. Special tokens stay.

    Args:
      encoder: Made the tokens.
      share: Of a text's tokens, those to be told.
    """
    special, words = encoder.special, len(encoder.vocabulary())

    def apply(
        inputs: dict[str, tf.Tensor], indices: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns the inputs with tokens masked, and the targets."""
        ids = inputs["token_ids"]
        width = tf.shape(ids)[1]
        ordinary = (ids != special.start) & (ids != special.end) & (inputs["padding_mask"] > 0)
        draws = _draws(indices, seed, encoder.sequence_length)[:, :, :width]
        counts = _rounded(share, tf.reduce_sum(tf.cast(ordinary, tf.int32), axis=1))
        # The most that a text of this width may have: few widths, and so few shapes.
        places = _rounded(share, width)
        order = tf.argsort(tf.where(ordinary, draws[:, 0], 2.0), axis=1, stable=True)
        told = tf.argsort(order, axis=1) < counts[:, tf.newaxis]
        is_place = tf.sequence_mask(counts, places)
        positions = tf.where(is_place, order[:, :places], 0)
        targets = tf.where(is_place, tf.gather(ids, positions, batch_dims=1), UNUSED)
        randoms = tf.cast(draws[:, 2] * tf.cast(words, tf.float32), tf.int32)
        randoms = tf.minimum(randoms, words - 1)  # float32 may round up
        kind = draws[:, 1]
        shown = tf.where(kind < _MASKED_OR_RANDOM, randoms, ids)
        shown = tf.where(kind < _MASKED, special.mask, shown)
        hidden = {**inputs, "token_ids": tf.where(told, shown, ids), MASK_POSITIONS: positions}
        return hidden, targets

    return apply


def _rounded(share: float, counts: tf.Tensor) -> tf.Tensor:
    """Returns the share of each count in whole tokens: at least one, where there is one."""
    exact = share * tf.cast(counts, tf.float32)
    return tf.minimum(tf.maximum(tf.cast(tf.floor(exact + 0.5), tf.int32), 1), counts)


def _draws(indices: tf.Tensor, seed: tf.Tensor, width: int) -> tf.Tensor:
    """Returns numbers from 0 to 1, float32 [batch, 3, width], each row drawn by its own index."""

    def drawn(index: tf.Tensor) -> tf.Tensor:
        own_seed = tf.random.experimental.stateless_fold_in(seed, index)
        return tf.random.stateless_uniform([_DRAWS, width], own_seed, alg=_ALGORITHM)

    return tf.map_fn(drawn, indices, fn_output_signature=tf.TensorSpec([_DRAWS, width]))


# Not from the recipe's seed: runs that differ in it are compared on the same masked tokens.
_EVALUATION = (0, 2**31)


_TRAINING = 2**30  # tells its seeds from those of the order


def masked_training_batches(
    prepared: Prepared, masking: Masking, recipe: Recipe, stage: Stage, skip: int = 0
) -> tf.data.Dataset:
    """Returns the batches of a stage, epoch after epoch, without end; those after `skip` ones.

    Elements are (inputs, targets), see `Masking`. What is masked of a text depends on the recipe's
    seed, the stage, the epoch and the text's place in the split alone.
    """
    base_seed = tf.constant([recipe.seed, _TRAINING + recipe.number_of(stage)], tf.int64)

    def masked(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        own_seed = tf.random.experimental.stateless_fold_in(base_seed, batch["epoch"])
        return masking(batch["input"], batch["index"], own_seed)

    return finished_training_batches(prepared, recipe, stage, masked, skip)


def masked_batches(prepared: Prepared, masking: Masking, recipe: Recipe) -> tf.data.Dataset:
    """Returns (inputs, targets) batches in stored order; what is masked is always the same."""
    seed = tf.constant(_EVALUATION, tf.int64)

    def masked(batch: Mapping[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return masking(batch["input"], batch["index"], seed)

    return finished_batches(prepared, recipe, masked)
