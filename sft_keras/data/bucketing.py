"""Batches of texts of like length: short ones need not be padded to the longest of all."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sft_keras.data.streams import shuffled_range

PLACES = 16  # so that there are few different shapes, for which kernels are prepared
_FEW = 4
_SORTED_AT_ONCE = 100  # batches; more would make epochs alike


def padded_length(
    longest: tf.Tensor | np.ndarray, multiple: int = PLACES
) -> tf.Tensor | np.ndarray:
    """Returns the number of places to which texts of that length are padded."""
    return -(-longest // multiple) * multiple


def few_lengths_multiple(longest: int) -> int:
    """Returns of what to take multiples, so that texts up to a length have four of them at most."""
    return int(padded_length(np.int64(-(-longest // _FEW))))


def bucketed_order(
    order: tf.Tensor, lengths: tf.Tensor, batch_size: int, seed: tf.Tensor
) -> tf.Tensor:
    """Returns an epoch's random order, changed so that each batch holds examples of like length.

    Each 100 batches of the random order are sorted by length, which leaves chance what is in a
    batch of which length; then all batches are shuffled. The last batch, if smaller, stays last,
    and is of any length.

    Args:
      order: int64 [n], positions in random order.
      lengths: int64 [n], by position.
      batch_size: Examples a batch.
      seed: int64 [2], the epoch's.
    """
    batches = tf.size(order) // batch_size
    whole = order[: batches * batch_size]
    window = tf.range(tf.size(whole, tf.int64), dtype=tf.int64) // (_SORTED_AT_ONCE * batch_size)
    keys = window * (1 + tf.reduce_max(lengths)) + tf.gather(lengths, whole)
    sorted_batches = tf.reshape(
        tf.gather(whole, tf.argsort(keys, stable=True)), [batches, batch_size]
    )
    own_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    shuffled = tf.gather(sorted_batches, shuffled_range(batches, own_seed))
    return tf.concat([tf.reshape(shuffled, [-1]), order[batches * batch_size :]], axis=0)
