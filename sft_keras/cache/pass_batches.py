"""What a pass over the data computes, batch by batch, and which process computes it.

The batches are numbered; of several processes each computes every so many-th, and knows of all of
them whose rows they are. Only its own are read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.cache.wanted import Wanted
from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.features import Structure
from sft_keras.data.lengths import padded_length
from sft_keras.data.streams import in_graph
from sft_keras.devices import Devices

Parts = Sequence[tuple[Wanted, np.ndarray]]
"""Rows of some splits."""


def shared_out(
    parts: Parts, batch_size: int, devices: Devices
) -> Iterator[tuple[np.ndarray, Structure | None]]:
    """Yields batches of rows, of all parts as if they were one.

    So that only the last batch of all is smaller; of texts, the last of each padded length.

    Args:
      parts: The rows to compute.
      batch_size: Rows in a batch.
      devices: The processes that compute them.

    Yields:
      (names uint8 [m, DIGEST_SIZE]; what the model reads for them, [m, ...], or None for a batch
      that another process computes). Those that follow one another are of the processes in turn.
    """
    before = 0
    for group in _of_one_size(parts):
        names = np.concatenate([wanted.names[rows] for wanted, rows in group])
        numbers = before + np.arange(len(names)) // batch_size
        is_own = devices.has_turn(numbers)
        own = _inputs(_chosen(group, is_own), batch_size)
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            yield batch, next(own) if is_own[start] else None
        before = numbers[-1] + 1


def _of_one_size(parts: Parts) -> Iterator[Parts]:
    """Returns the parts, or of texts those of each padded length by themselves.

    So that what is computed of a text depends on its own length alone, and not on those of others.
    """
    parts = [(wanted, rows) for wanted, rows in parts if len(rows)]
    lengths = [wanted.prepared.lengths for wanted, _ in parts]
    if not parts or lengths[0] is None:
        yield from [parts] if parts else []
        return
    padded = [
        padded_length(each[rows], wanted.prepared.padded_to)
        for each, (wanted, rows) in zip(lengths, parts)
    ]
    for length in np.unique(np.concatenate(padded)):
        chosen = [(wanted, rows[own == length]) for own, (wanted, rows) in zip(padded, parts)]
        yield [(wanted, rows) for wanted, rows in chosen if len(rows)]


def _chosen(parts: Parts, is_chosen: np.ndarray) -> Parts:
    """Returns some of the rows, by a flag for each of all parts' one after the other."""
    ends = np.cumsum([len(rows) for _, rows in parts])[:-1]
    flags = np.split(is_chosen, ends)
    chosen = [(wanted, rows[each]) for (wanted, rows), each in zip(parts, flags)]
    return [(wanted, rows) for wanted, rows in chosen if len(rows)]


def _inputs(parts: Parts, batch_size: int) -> Iterator[Structure]:
    """Yields batches of what the model reads for some rows of several splits, in that order."""
    if all(wanted.prepared.features is not None for wanted, _ in parts):
        # Without a data set, of which making one takes longer than all it does.
        yield from _held_inputs(parts, batch_size)
        return
    inputs = [
        ordered_batches(wanted.prepared, batch_size, rows).map(
            in_graph(lambda batch: batch["input"])
        )
        for wanted, rows in parts
    ]
    joined = functools.reduce(tf.data.Dataset.concatenate, inputs)
    yield from with_options(joined.rebatch(batch_size))


def _held_inputs(parts: Parts, batch_size: int) -> Iterator[Structure]:
    total = sum(len(rows) for _, rows in parts)
    for start in range(0, total, batch_size):
        pieces, before = [], 0
        for wanted, rows in parts:
            chosen = rows[max(0, start - before) : max(0, start + batch_size - before)]
            before += len(rows)
            if len(chosen):
                prepared, longest = wanted.prepared, None
                if prepared.lengths is not None:
                    own = prepared.lengths[chosen].max()
                    longest = padded_length(own, prepared.padded_to)
                pieces.append(prepared.features.take(tf.constant(chosen), longest))
        yield tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *pieces)
