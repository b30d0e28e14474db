"""Random changes to tokens, as a pure function of a seed."""

from __future__ import annotations

import tensorflow as tf

from sft_keras.tasks.labelled_batches import Augmentation
from sft_keras.text.augment_config import TextAugment
from sft_keras.text.encoder import SpecialTokens

_ALGORITHM = "philox"  # the same on every device


def build_text_augmentation(augment: TextAugment, special: SpecialTokens) -> Augmentation | None:
    """Returns a function (inputs, labels, seed) -> (inputs, labels), or None if nothing is on.

    Inputs are what a `TextEncoder` gives, int32 [batch, tokens] each, and keep their shapes.
    SpecialTokens tokens stay where they are, or move up where others before them were deleted.
    """
    if augment == TextAugment():
        return None

    def apply(
        inputs: dict[str, tf.Tensor], labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns the inputs, changed as the seed says, and the labels as they are."""
        ids = inputs["token_ids"]
        ordinary = (ids != special.start) & (ids != special.end) & (inputs["padding_mask"] > 0)

        def drawn(number: int, share: float) -> tf.Tensor:
            own_seed = tf.random.experimental.stateless_fold_in(seed, number)
            return tf.random.stateless_uniform(tf.shape(ids), own_seed, alg=_ALGORITHM) < share

        if augment.swap:
            first = drawn(0, 0.5)[0, 0]
            ids = _swapped(ids, ordinary, drawn(1, augment.swap), first)
        if augment.mask:
            ids = tf.where(drawn(2, augment.mask) & ordinary, special.mask, ids)
        inputs = {**inputs, "token_ids": ids}
        if augment.delete:
            inputs = _without(inputs, drawn(3, augment.delete) & ordinary, special.pad)
        return inputs, labels

    return apply


def _swapped(
    ids: tf.Tensor, ordinary: tf.Tensor, wanted: tf.Tensor, from_first: tf.Tensor
) -> tf.Tensor:
    """Exchanges ids with the next ones, of pairs that begin at the first place or the second.

    No token is in two pairs, so the share of the pairs exchanged is that of the tokens moved.
    """
    is_even = tf.range(tf.shape(ids)[1] - 1) % 2 == 0
    begins = wanted[:, :-1] & ordinary[:, :-1] & ordinary[:, 1:] & (is_even == from_first)
    none = tf.zeros_like(begins[:, :1])
    moved_left = tf.where(tf.concat([begins, none], axis=1), tf.roll(ids, -1, axis=1), ids)
    return tf.where(tf.concat([none, begins], axis=1), tf.roll(ids, 1, axis=1), moved_left)


def _without(inputs: dict[str, tf.Tensor], gone: tf.Tensor, pad: int) -> dict[str, tf.Tensor]:
    """Leaves tokens out; the others move up, and padding fills the end."""
    width = tf.shape(gone)[1]
    # Kept ones first, in their order.
    order = tf.argsort(tf.cast(gone, tf.int32), axis=1, stable=True)
    left = tf.sequence_mask(width - tf.reduce_sum(tf.cast(gone, tf.int32), axis=1), width)
    fill = {"token_ids": pad}
    return {
        name: tf.where(left, tf.gather(each, order, batch_dims=1), fill.get(name, 0))
        for name, each in inputs.items()
    }
