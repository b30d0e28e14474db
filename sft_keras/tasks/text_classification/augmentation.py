"""Token augmentation (swap, mask, delete) as a pure function of a seed."""

from __future__ import annotations

import tensorflow as tf

from sft_keras.tasks.labelled_batches import Augmentation
from sft_keras.text.augment_config import TextAugment
from sft_keras.text.encoder import SpecialTokens

_ALGORITHM = "philox"  # the same on every device


def build_text_augmentation(augment: TextAugment, special: SpecialTokens) -> Augmentation | None:
    """Return the augmentation of token batches, or None if every change is off.

    Args:
      augment: The changes to make, each with its share of the ordinary tokens.
      special: Ids of the special tokens, which are never changed. They move left only where tokens
        before them are deleted.

    Returns:
      A function (inputs, labels, seed) -> (inputs, labels). Inputs are those of a `TextEncoder`,
      int32 [batch, tokens] each, and keep their shapes; labels are unchanged.
    """
    if augment == TextAugment():
        return None

    def apply(
        inputs: dict[str, tf.Tensor], labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        ids = inputs["token_ids"]
        ordinary = (ids != special.start) & (ids != special.end) & (inputs["padding_mask"] > 0)

        def draw(number: int, share: float) -> tf.Tensor:
            draw_seed = tf.random.experimental.stateless_fold_in(seed, number)
            return tf.random.stateless_uniform(tf.shape(ids), draw_seed, alg=_ALGORITHM) < share

        if augment.swap:
            is_even = draw(0, 0.5)[0, 0]
            ids = _swap(ids, ordinary, draw(1, augment.swap), is_even)
        if augment.mask:
            ids = tf.where(draw(2, augment.mask) & ordinary, special.mask, ids)
        inputs = {**inputs, "token_ids": ids}
        if augment.delete:
            inputs = _delete(inputs, draw(3, augment.delete) & ordinary, special.pad)
        return inputs, labels

    return apply


def _swap(
    ids: tf.Tensor, ordinary: tf.Tensor, selected: tf.Tensor, at_even: tf.Tensor
) -> tf.Tensor:
    """Swap neighbouring ordinary tokens.

    Pairs begin at even positions only, or at odd ones only. No token is in two pairs, so the share
    of swapped pairs is that of moved tokens.

    Args:
      ids: int32 [batch, tokens].
      ordinary: bool [batch, tokens]; others are not moved.
      selected: bool [batch, tokens]; whether to swap a token with the next one.
      at_even: bool scalar; whether pairs begin at even positions.
    """
    is_even = tf.range(tf.shape(ids)[1] - 1) % 2 == 0
    begins = selected[:, :-1] & ordinary[:, :-1] & ordinary[:, 1:] & (is_even == at_even)
    none = tf.zeros_like(begins[:, :1])
    moved_left = tf.where(tf.concat([begins, none], axis=1), tf.roll(ids, -1, axis=1), ids)
    return tf.where(tf.concat([none, begins], axis=1), tf.roll(ids, 1, axis=1), moved_left)


def _delete(inputs: dict[str, tf.Tensor], deleted: tf.Tensor, pad: int) -> dict[str, tf.Tensor]:
    """Delete tokens; later ones move left, and padding fills the end."""
    width = tf.shape(deleted)[1]
    # A stable sort puts kept tokens first, in their order.
    order = tf.argsort(tf.cast(deleted, tf.int32), axis=1, stable=True)
    kept = tf.sequence_mask(width - tf.reduce_sum(tf.cast(deleted, tf.int32), axis=1), width)
    padding = {"token_ids": pad}
    return {
        name: tf.where(kept, tf.gather(tokens, order, batch_dims=1), padding.get(name, 0))
        for name, tokens in inputs.items()
    }
