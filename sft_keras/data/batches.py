"""Batches of what a model reads and of labels, in an order that depends on the seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.bucketing import bucketed_order, padded_length
from sft_keras.data.prepared import Prepared
from sft_keras.data.service.batches import served_ordered_batches, served_training_batches
from sft_keras.data.streams import THREADS, in_graph, shuffled_range

_PREFETCHED = 2


def training_batches(
    prepared: Prepared,
    batch_size: int,
    seed: int,
    stage_index: int,
    epochs: int | None = None,
    first_epoch: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Returns the batches of a whole stage, epoch after epoch, as one dataset.

    One dataset, because a new iterator every epoch would make every epoch start cold. Each epoch
    holds each example once; its last batch may be smaller. The order of an epoch, and which view
    of each example it has, is a function of (seed, stage_index, epoch) alone, so a later epoch can
    be had without those before it.

    Args:
      prepared: The split.
      batch_size: Examples a batch.
      seed: The recipe's.
      stage_index: Which stage of the recipe it is, from 0.
      epochs: How many; None for no end.
      first_epoch: The number of the first.
      first_step: Of that epoch.

    Returns:
      {"input": what `prepared.features` holds, [batch, ...]; "label": int32 [batch]; "index":
      int64 [batch], positions in the split; "epoch": int64 scalar; "step": int64 scalar, counted
      within the epoch}, and "target": y, where `prepared` has targets.
    """
    last = None if epochs is None else first_epoch + epochs
    if prepared.features is None and prepared.examples.service is not None:
        return served_training_batches(
            prepared,
            batch_size,
            lambda epoch: epoch_seed(seed, stage_index, epoch),
            (first_epoch, first_step),
            last,
        )

    @in_graph
    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        own_seed = epoch_seed(seed, stage_index, epoch)
        if prepared.features is None:
            batches = _streamed_batches(prepared, batch_size, own_seed)
        else:
            count = len(prepared.examples)
            order = epoch_order(prepared, batch_size, own_seed)
            views = tf.gather(epoch_views(prepared, seed, stage_index, epoch), order)
            batches = _held_batches(prepared, batch_size, order, views, count)
        return batches.enumerate().map(
            in_graph(lambda step, batch: {**batch, "epoch": epoch, "step": step})
        )

    epochs_left = tf.data.Dataset.range(first_epoch, tf.int64.max if last is None else last)
    return epochs_left.flat_map(batches_of).skip(first_step)


def ordered_batches(
    prepared: Prepared, batch_size: int, positions: np.ndarray | None = None
) -> tf.data.Dataset:
    """Returns the batches of a split in stored order; the last may be smaller.

    Args:
      prepared: The split.
      batch_size: Examples a batch.
      positions: Those wanted, int64 [m] in ascending order; None for all.

    Returns:
      {"input": [batch, ...], "label": int32 [batch], "index": int64 [batch]}, and "target": y,
      where `prepared` has targets.
    """
    if positions is None:
        positions = np.arange(len(prepared.examples))
    if prepared.features is None and prepared.examples.service is not None:
        return served_ordered_batches(prepared, batch_size, positions)
    if prepared.features is None:
        is_wanted = np.zeros(len(prepared.examples), bool)
        is_wanted[positions] = True
        return _streamed_batches(prepared, batch_size, None, tf.constant(is_wanted))
    order = tf.constant(positions, tf.int64)
    return _held_batches(prepared, batch_size, order, tf.zeros_like(order), len(positions))


def epoch_order(prepared: Prepared, batch_size: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns the positions of held examples in the order of an epoch, int64 [n]."""
    order = shuffled_range(len(prepared.examples), seed)
    if prepared.lengths is None:
        return order
    return bucketed_order(order, tf.constant(prepared.lengths, tf.int64), batch_size, seed)


def epoch_seed(seed: int, stage_index: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """Returns the seed of an epoch's order, int64 [2]."""
    base = tf.constant([seed, stage_index], tf.int64)
    return tf.random.experimental.stateless_fold_in(base, epoch)


def epoch_views(
    prepared: Prepared, seed: int, stage_index: int, epoch: int | tf.Tensor
) -> tf.Tensor:
    """Returns which of its views each example shows in an epoch, int64 [n].

    In as many epochs as there are views an example shows each of them once, in an order of its
    own; then in another.
    """
    views = prepared.views
    if views == 1:
        return tf.zeros([len(prepared.examples)], tf.int64)
    epoch = tf.cast(epoch, tf.int64)
    # Negative, so that it is not the seed of any epoch's order of examples.
    round_seed = epoch_seed(seed, stage_index, -1 - epoch // views)
    draws = tf.random.stateless_uniform([len(prepared.examples), views], round_seed, alg="philox")
    return tf.cast(tf.argsort(draws, axis=1, stable=True)[:, epoch % views], tf.int64)


def with_options(dataset: tf.data.Dataset, deterministic: bool = True) -> tf.data.Dataset:
    """Returns the dataset, prefetched, with the settings that were measured to be fastest."""
    options = tf.data.Options()
    # On two cores autotuning makes about every second epoch nearly twice as slow.
    options.autotune.enabled = False
    options.deterministic = deterministic
    return dataset.prefetch(_PREFETCHED).with_options(options)


def _held_batches(
    prepared: Prepared, batch_size: int, order: tf.Tensor, views: tf.Tensor, count: int
) -> tf.data.Dataset:
    """Returns batches of the `count` examples at `order`, each in the view beside it."""
    labels = tf.constant(prepared.examples.labels, tf.int32)
    lengths = None if prepared.lengths is None else tf.constant(prepared.lengths, tf.int64)
    steps = -(-count // batch_size)

    @in_graph
    def batch(step: tf.Tensor) -> dict[str, Any]:
        chosen = slice(step * batch_size, (step + 1) * batch_size)
        indices = order[chosen]
        rows = views[chosen] * len(prepared.examples) + indices
        longest = None
        if prepared.lengths is not None:
            own = tf.gather(lengths, indices)
            longest = padded_length(tf.reduce_max(own), prepared.pad_to_multiple_of)
        read = prepared.features.take(rows, longest)
        if not prepared.has_targets:
            read = {"input": read}
            if prepared.targets is not None:
                read["target"] = prepared.targets.take(indices, longest)
        return {**read, "label": tf.gather(labels, indices), "index": indices}

    return tf.data.Dataset.range(steps).map(batch)


def _streamed_batches(
    prepared: Prepared,
    batch_size: int,
    seed: tf.Tensor | None,
    is_wanted: tf.Tensor | None = None,
) -> tf.data.Dataset:
    labels = tf.constant(prepared.examples.labels, tf.int32)

    @in_graph
    def example(raw: dict[str, tf.Tensor]) -> dict[str, Any]:
        index = raw["index"]
        return {"input": prepared.read(raw), "label": labels[index], "index": index}

    examples = prepared.examples.stream(seed)
    if is_wanted is not None:
        examples = examples.filter(in_graph(lambda raw: is_wanted[raw["index"]]))
    examples = examples.map(example, num_parallel_calls=THREADS, deterministic=True)
    return examples.batch(batch_size)
