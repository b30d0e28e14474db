"""Batches that a data service reads: the same, in the same order, as without a service."""

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
    start: tuple[int, int],
    end_epoch: int | None,
) -> tf.data.Dataset:
    """Return the batches of `training_batches`, read by the split's service.

    Args:
      prepared: The split.
      batch_size: Examples per batch.
      seed_of: Maps an epoch to the seed of its order.
      start: The epoch and the step to start with.
      end_epoch: The epoch after the last; None for no end.
    """
    service, read = prepared.examples.require_service(), prepared.require_read()
    size = len(prepared.examples)
    numbered = NumberedBatches(
        prepared.examples,
        read,
        batch_size,
        size,
        lambda epoch: shuffled_range(size, seed_of(epoch)),
    )
    steps = numbered.steps
    epoch, step = start
    end = None if end_epoch is None else end_epoch * steps
    batches = service.batches(numbered, epoch * steps + step, end)

    @in_graph
    def with_step(batch: dict[str, Any]) -> dict[str, Any]:
        number = batch["number"]
        return {**_with_labels(prepared, batch), "epoch": number // steps, "step": number % steps}

    return batches.map(with_step)


def served_ordered_batches(
    prepared: Prepared, batch_size: int, positions: np.ndarray
) -> tf.data.Dataset:
    """Return the batches of `ordered_batches`, read by the split's service.

    Args:
      prepared: The split.
      batch_size: Examples per batch.
      positions: The examples to return, int64 [m] in ascending order.
    """
    service, read = prepared.examples.require_service(), prepared.require_read()
    numbered = NumberedBatches.in_stored_order(prepared.examples, read, batch_size, positions)
    batches = service.batches(numbered, 0, numbered.steps)
    return batches.map(in_graph(lambda batch: _with_labels(prepared, batch)))


def _with_labels(prepared: Prepared, batch: dict[str, Any]) -> dict[str, Any]:
    labels = tf.constant(prepared.examples.labels, tf.int32)
    index = batch["index"]
    return {"input": batch["input"], "label": tf.gather(labels, index), "index": index}
