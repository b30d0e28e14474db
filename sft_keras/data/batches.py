"""Batches of pixels and labels, in an order that depends on the seed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from sft_keras.data.images import read_pixels
from sft_keras.data.streams import THREADS, shuffled_range

if TYPE_CHECKING:
    from sft_keras.data.store import Prepared

_PREFETCHED = 2


def training_batches(
    prepared: Prepared,
    batch_size: int,
    seed: int,
    stage_index: int,
    epochs: int | None = None,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Returns the batches of a whole stage, epoch after epoch, as one dataset.

    One dataset, because a new iterator every epoch would make every epoch start cold. Each epoch
    holds each example once; its last batch may be smaller. The order of an epoch is a function of
    (seed, stage_index, epoch) alone, so a later epoch can be had without those before it.

    Args:
      prepared: The split.
      batch_size: Examples a batch.
      seed: The recipe's.
      stage_index: Which stage of the recipe it is, from 0.
      epochs: How many; None for no end.
      first_epoch: The number of the first.

    Returns:
      {"image": uint8 [batch, height, width, 3] in 0..255, "label": int32 [batch], "epoch": int64
      scalar, "step": int64 scalar, counted within the epoch}.
    """
    last = tf.int64.max if epochs is None else first_epoch + epochs

    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = _shuffled_batches(prepared, batch_size, epoch_seed(seed, stage_index, epoch))
        return batches.enumerate().map(
            lambda step, batch: {**batch, "epoch": epoch, "step": step},
        )

    return tf.data.Dataset.range(first_epoch, last).flat_map(batches_of)


def ordered_batches(prepared: Prepared, batch_size: int) -> tf.data.Dataset:
    """Returns the batches of a split in stored order; the last may be smaller.

    Returns:
      (uint8 [batch, height, width, 3] in 0..255, int32 [batch]).
    """
    if prepared.features is None:
        batches = _streamed_batches(prepared, batch_size, seed=None)
    else:
        order = tf.range(len(prepared.examples), dtype=tf.int64)
        batches = _held_batches(prepared, batch_size, order)
    return batches.map(lambda batch: (batch["image"], batch["label"]))


def epoch_seed(seed: int, stage_index: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """Returns the seed of an epoch's order, int64 [2]."""
    base = tf.constant([seed, stage_index], tf.int64)
    return tf.random.experimental.stateless_fold_in(base, epoch)


def with_options(dataset: tf.data.Dataset, deterministic: bool = True) -> tf.data.Dataset:
    """Returns the dataset, prefetched, with the settings that were measured to be fastest."""
    options = tf.data.Options()
    # On two cores autotuning makes about every second epoch nearly twice as slow.
    options.autotune.enabled = False
    options.deterministic = deterministic
    return dataset.prefetch(_PREFETCHED).with_options(options)


def _shuffled_batches(prepared: Prepared, batch_size: int, seed: tf.Tensor) -> tf.data.Dataset:
    if prepared.features is None:
        return _streamed_batches(prepared, batch_size, seed)
    return _held_batches(prepared, batch_size, shuffled_range(len(prepared.examples), seed))


def _held_batches(prepared: Prepared, batch_size: int, order: tf.Tensor) -> tf.data.Dataset:
    labels = tf.constant(prepared.examples.labels, tf.int32)
    steps = -(-len(prepared.examples) // batch_size)

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        indices = order[step * batch_size : (step + 1) * batch_size]
        return {
            "image": tf.gather(prepared.features, indices),
            "label": tf.gather(labels, indices),
        }

    return tf.data.Dataset.range(steps).map(batch)


def _streamed_batches(
    prepared: Prepared, batch_size: int, seed: tf.Tensor | None
) -> tf.data.Dataset:
    labels = tf.constant(prepared.examples.labels, tf.int32)

    def example(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = read_pixels(raw["image"], prepared.image_size, prepared.fit)
        return {"image": image, "label": labels[raw["index"]]}

    examples = prepared.examples.stream(seed)
    examples = examples.map(example, num_parallel_calls=THREADS, deterministic=True)
    return examples.batch(batch_size)
