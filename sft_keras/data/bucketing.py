"""Bucketing by length: batches of texts of similar length need little padding."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sft_keras.data.streams import shuffled_range

PAD_MULTIPLE = 16
"""Batch lengths are multiples of this, so that there are few shapes to prepare kernels for."""

_FEW = 4
_SORT_WINDOW = 100  # batches; sorting more at a time would make the epochs alike


def padded_length(
    longest: tf.Tensor | np.ndarray, multiple: int = PAD_MULTIPLE
) -> tf.Tensor | np.ndarray:
    """Return a length in tokens, rounded up to a multiple."""
    return -(-longest // multiple) * multiple


def few_lengths_multiple(longest: int) -> int:
    """Return a multiple of which at most four are needed to fit texts of up to `longest` tokens."""
    return int(padded_length(np.int64(-(-longest // _FEW))))


def bucketed_order(
    order: tf.Tensor, lengths: tf.Tensor, batch_size: int, seed: tf.Tensor
) -> tf.Tensor:
    """Rearrange an epoch's random order so that each batch holds examples of similar length.

    Every 100 batches of the random order are sorted by length, so that chance still decides which
    examples of a length share a batch; then all batches are shuffled. The last batch, if smaller,
    stays last and has mixed lengths.

    Args:
      order: int64 [n], positions in random order.
      lengths: int64 [n], tokens by position.
      batch_size: Examples per batch.
      seed: int64 [2], the epoch's seed.

    Returns:
      int64 [n], the same positions.
    """
    batches = tf.size(order) // batch_size
    full = order[: batches * batch_size]
    window = tf.range(tf.size(full, tf.int64), dtype=tf.int64) // (_SORT_WINDOW * batch_size)
    keys = window * (1 + tf.reduce_max(lengths)) + tf.gather(lengths, full)
    sorted_batches = tf.reshape(
        tf.gather(full, tf.argsort(keys, stable=True)), [batches, batch_size]
    )
    batch_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    shuffled = tf.gather(sorted_batches, shuffled_range(batches, batch_seed))
    return tf.concat([tf.reshape(shuffled, [-1]), order[batches * batch_size :]], axis=0)
