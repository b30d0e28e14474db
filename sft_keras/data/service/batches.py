"""Batches of files that a data service reads: the same in the same order as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.prepared import Prepared
from sft_keras.data.service.numbered_batches import NumberedBatches
from sft_keras.data.streams import in_graph, shuffled_range


def served_training_batches(
    prepared: Prepared,
    batch_size: int,
    seed_of: Callable[[tf.Tensor], tf.Tensor],
    first: tuple[int, int],
    last_epoch: int | None,
) -> tf.data.Dataset:
    """Returns what `training_batches` does.

    Args:
      prepared: The split.
      batch_size: Examples a batch.
      seed_of: From an epoch to the seed of its order.
      first: The epoch and the step to begin with.
      last_epoch: The number after that of the last epoch; None for no end.
    """
    size = len(prepared.examples)
    numbered = NumberedBatches(
        prepared.examples,
        prepared.read,
        batch_size,
        size,
        lambda epoch: shuffled_range(size, seed_of(epoch)),
    )
    steps = numbered.steps
    epoch, step = first
    end = None if last_epoch is None else last_epoch * steps
    batches = prepared.examples.service.batches(numbered, epoch * steps + step, end)

    @in_graph
    def placed(batch: dict[str, Any]) -> dict[str, Any]:
        number = batch["number"]
        return {**_labelled(prepared, batch), "epoch": number // steps, "step": number % steps}

    return batches.map(placed)


def served_ordered_batches(
    prepared: Prepared, batch_size: int, positions: np.ndarray
) -> tf.data.Dataset:
    """Returns what `ordered_batches` does."""
    numbered = NumberedBatches.in_stored_order(
        prepared.examples, prepared.read, batch_size, positions
    )
    batches = prepared.examples.service.batches(numbered, 0, numbered.steps)
    return batches.map(in_graph(lambda batch: _labelled(prepared, batch)))


def _labelled(prepared: Prepared, batch: dict[str, Any]) -> dict[str, Any]:
    labels = tf.constant(prepared.examples.labels, tf.int32)
    index = batch["index"]
    return {"input": batch["input"], "label": tf.gather(labels, index), "index": index}
