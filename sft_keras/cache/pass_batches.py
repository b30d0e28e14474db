"""Batches of model inputs for a pass over several splits, shared between processes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.cache.row_request import RowRequest
from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.bucketing import padded_length
from sft_keras.data.features import Structure
from sft_keras.data.streams import in_graph
from sft_keras.distributed.devices import Devices

Parts = Sequence[tuple[RowRequest, np.ndarray]]
"""Rows of several splits: (request, int64 [m] positions of its rows)."""


def pass_batches(
    parts: Parts, batch_size: int, devices: Devices
) -> Iterator[tuple[np.ndarray, Structure | None]]:
    """Yield batches over all parts as if they were one split.

    Only the last batch overall is smaller; for texts, the last batch of each padded length.

    Args:
      parts: The rows to compute.
      batch_size: Rows per batch.
      devices: The processes that compute them; consecutive batches go to the processes in turn.

    Yields:
      (row names, uint8 [m, DIGEST_SIZE]; model inputs, [m, ...], or None if another process
      computes the batch).
    """
    batches_before = 0
    for group in _by_padded_length(parts):
        names = np.concatenate([request.names[rows] for request, rows in group])
        numbers = batches_before + np.arange(len(names)) // batch_size
        is_local = devices.is_assigned(numbers)
        inputs = _inputs(_select(group, is_local), batch_size)
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            yield batch, next(inputs) if is_local[start] else None
        batches_before = numbers[-1] + 1


def _by_padded_length(parts: Parts) -> Iterator[Parts]:
    """Yield the parts; for texts, the rows of each padded length separately.

    A text's features then depend only on its own length and not on the texts it is batched with.
    """
    parts = [(request, rows) for request, rows in parts if len(rows)]
    padded = [
        padded_length(request.prepared.lengths[rows], request.prepared.pad_to_multiple_of)
        for request, rows in parts
        if request.prepared.lengths is not None
    ]
    if not padded:
        yield from [parts] if parts else []
        return
    for length in np.unique(np.concatenate(padded)):
        selected = [
            (request, rows[part_lengths == length])
            for part_lengths, (request, rows) in zip(padded, parts, strict=True)
        ]
        yield [(request, rows) for request, rows in selected if len(rows)]


def _select(parts: Parts, is_selected: np.ndarray) -> Parts:
    """Return the selected rows; `is_selected` has one flag per row over all parts."""
    ends = np.cumsum([len(rows) for _, rows in parts])[:-1]
    masks = np.split(is_selected, ends)
    selected = [(request, rows[mask]) for (request, rows), mask in zip(parts, masks)]
    return [(request, rows) for request, rows in selected if len(rows)]


def _inputs(parts: Parts, batch_size: int) -> Iterator[Structure]:
    """Yield batches of model inputs for rows of several splits, in order."""
    if all(request.prepared.features is not None for request, _ in parts):
        # Without a tf.data pipeline, because building one takes longer than the batches do.
        yield from _held_inputs(parts, batch_size)
        return
    datasets = [
        ordered_batches(request.prepared, batch_size, rows).map(
            in_graph(lambda batch: batch["input"])
        )
        for request, rows in parts
    ]
    joined = functools.reduce(tf.data.Dataset.concatenate, datasets)
    yield from with_options(joined.rebatch(batch_size))


def _held_inputs(parts: Parts, batch_size: int) -> Iterator[Structure]:
    """Yield the same batches of inputs that are already in memory."""
    total = sum(len(rows) for _, rows in parts)
    for start in range(0, total, batch_size):
        pieces, before = [], 0
        for request, rows in parts:
            selected = rows[max(0, start - before) : max(0, start + batch_size - before)]
            before += len(rows)
            if len(selected):
                prepared, longest = request.prepared, None
                if prepared.lengths is not None:
                    longest = padded_length(
                        prepared.lengths[selected].max(), prepared.pad_to_multiple_of
                    )
                pieces.append(prepared.require_features().take(tf.constant(selected), longest))
        yield tf.nest.map_structure(lambda *tensors: tf.concat(tensors, axis=0), *pieces)
