"""Batches of model inputs and labels, in an order that depends only on the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.bucketing import bucketed_order, padded_length
from sft_keras.data.prepared import Prepared
from sft_keras.data.service.batches import served_ordered_batches, served_training_batches
from sft_keras.data.streams import THREADS, in_graph, shuffled_range

_PREFETCH = 2  # batches


def training_batches(
    prepared: Prepared,
    batch_size: int,
    seed: int,
    stage_index: int,
    epochs: int | None = None,
    first_epoch: int = 0,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Return the batches of a whole stage, epoch after epoch, as one dataset.

    It is one dataset because with a new iterator per epoch every epoch would start cold. Each epoch
    contains every example once; its last batch may be smaller. The order of an epoch, and the view
    of each example, depend only on (seed, stage_index, epoch), so any epoch can be produced without
    those before it.

    Args:
      prepared: The split.
      batch_size: Examples per batch.
      seed: The recipe's seed.
      stage_index: The index of the stage in the recipe, from 0.
      epochs: Number of epochs; None for no end.
      first_epoch: The epoch to start with.
      first_step: The step of that epoch to start with.

    Returns:
      {"input": rows of `prepared.features`, [batch, ...]; "label": int32 [batch]; "index": int64
      [batch], positions in the split; "epoch": int64 scalar; "step": int64 scalar, counted within
      the epoch}, and "target": y, if `prepared` has targets.
    """
    end_epoch = None if epochs is None else first_epoch + epochs
    if prepared.features is None and prepared.examples.service is not None:
        return served_training_batches(
            prepared,
            batch_size,
            lambda epoch: epoch_seed(seed, stage_index, epoch),
            (first_epoch, first_step),
            end_epoch,
        )

    @in_graph
    def batches_of(epoch: tf.Tensor) -> tf.data.Dataset:
        order_seed = epoch_seed(seed, stage_index, epoch)
        if prepared.features is None:
            batches = _streamed_batches(prepared, batch_size, order_seed)
        else:
            count = len(prepared.examples)
            order = epoch_order(prepared, batch_size, order_seed)
            views = tf.gather(epoch_views(prepared, seed, stage_index, epoch), order)
            batches = _feature_batches(prepared, batch_size, order, views, count)
        return batches.enumerate().map(
            in_graph(lambda step, batch: {**batch, "epoch": epoch, "step": step})
        )

    end = tf.int64.max if end_epoch is None else end_epoch
    return tf.data.Dataset.range(first_epoch, end).flat_map(batches_of).skip(first_step)


def ordered_batches(
    prepared: Prepared, batch_size: int, positions: np.ndarray | None = None
) -> tf.data.Dataset:
    """Return the batches of a split in stored order; the last may be smaller.

    Args:
      prepared: The split.
      batch_size: Examples per batch.
      positions: The examples to return, int64 [m] in ascending order; None for all.

    Returns:
      {"input": [batch, ...], "label": int32 [batch], "index": int64 [batch]}, and "target": y,
      if `prepared` has targets.
    """
    if positions is None:
        positions = np.arange(len(prepared.examples))
    if prepared.features is None and prepared.examples.service is not None:
        return served_ordered_batches(prepared, batch_size, positions)
    if prepared.features is None:
        is_selected = np.zeros(len(prepared.examples), bool)
        is_selected[positions] = True
        return _streamed_batches(prepared, batch_size, None, tf.constant(is_selected))
    order = tf.constant(positions, tf.int64)
    return _feature_batches(prepared, batch_size, order, tf.zeros_like(order), len(positions))


def epoch_order(prepared: Prepared, batch_size: int, seed: tf.Tensor) -> tf.Tensor:
    """Return the positions of a split's examples in an epoch's order, int64 [n].

    Args:
      prepared: A split with features; those with lengths are bucketed.
      batch_size: Examples per batch.
      seed: int64 [2], see `epoch_seed`.
    """
    order = shuffled_range(len(prepared.examples), seed)
    if prepared.lengths is None:
        return order
    return bucketed_order(order, tf.constant(prepared.lengths, tf.int64), batch_size, seed)


def epoch_seed(seed: int, stage_index: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """Return the seed of an epoch's order, int64 [2]."""
    base = tf.constant([seed, stage_index], tf.int64)
    return tf.random.experimental.stateless_fold_in(base, epoch)


def epoch_views(
    prepared: Prepared, seed: int, stage_index: int, epoch: int | tf.Tensor
) -> tf.Tensor:
    """Return which of its views each example shows in an epoch, int64 [n].

    With v views, an example shows each of them once in every round of v epochs, in a random order
    that differs between examples and rounds.
    """
    views = prepared.views
    if views == 1:
        return tf.zeros([len(prepared.examples)], tf.int64)
    epoch = tf.cast(epoch, tf.int64)
    # Negative, so that it differs from the seeds of all epochs' orders.
    round_seed = epoch_seed(seed, stage_index, -1 - epoch // views)
    draws = tf.random.stateless_uniform([len(prepared.examples), views], round_seed, alg="philox")
    return tf.cast(tf.argsort(draws, axis=1, stable=True)[:, epoch % views], tf.int64)


def with_options(dataset: tf.data.Dataset, deterministic: bool = True) -> tf.data.Dataset:
    """Return the dataset with prefetching and the options that were measured to be fastest."""
    options = tf.data.Options()
    # On two cores autotuning makes about every second epoch nearly twice as slow.
    options.autotune.enabled = False
    options.deterministic = deterministic
    return dataset.prefetch(_PREFETCH).with_options(options)


def _feature_batches(
    prepared: Prepared, batch_size: int, order: tf.Tensor, views: tf.Tensor, count: int
) -> tf.data.Dataset:
    """Return batches of features.

    Args:
      prepared: A split with features.
      batch_size: Examples per batch.
      order: int64 [count], positions in the split.
      views: int64 [count], the view of each of them.
      count: How many examples there are.
    """
    labels = tf.constant(prepared.examples.labels, tf.int32)
    lengths = None if prepared.lengths is None else tf.constant(prepared.lengths, tf.int64)
    features, steps = prepared.require_features(), -(-count // batch_size)

    @in_graph
    def batch(step: tf.Tensor) -> dict[str, Any]:
        selected = slice(step * batch_size, (step + 1) * batch_size)
        indices = order[selected]
        rows = views[selected] * len(prepared.examples) + indices
        length = None
        if prepared.lengths is not None:
            longest = tf.reduce_max(tf.gather(lengths, indices))
            length = padded_length(longest, prepared.pad_to_multiple_of)
        columns = features.take(rows, length)
        if not prepared.has_targets:
            columns = {"input": columns}
            if prepared.targets is not None:
                columns["target"] = prepared.targets.take(indices, length)
        return {**columns, "label": tf.gather(labels, indices), "index": indices}

    return tf.data.Dataset.range(steps).map(batch)


def _streamed_batches(
    prepared: Prepared,
    batch_size: int,
    seed: tf.Tensor | None,
    is_selected: tf.Tensor | None = None,
) -> tf.data.Dataset:
    """Return batches of inputs that are computed as the examples are read."""
    labels = tf.constant(prepared.examples.labels, tf.int32)
    read = prepared.require_read()

    @in_graph
    def example(raw: dict[str, tf.Tensor]) -> dict[str, Any]:
        index = raw["index"]
        return {"input": read(raw), "label": labels[index], "index": index}

    examples = prepared.examples.stream(seed)
    if is_selected is not None:
        examples = examples.filter(in_graph(lambda raw: is_selected[raw["index"]]))
    examples = examples.map(example, num_parallel_calls=THREADS, deterministic=True)
    return examples.batch(batch_size)
