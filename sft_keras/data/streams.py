"""Datasets of raw examples in stored or in stateless random order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.data.listing import Part

THREADS = os.cpu_count() or 1
_SHUFFLED_AT_ONCE = 8192  # about 1 GB of encoded photographs

# The order must not depend on the device that draws it, as "auto_select" does.
_ALGORITHM = "philox"

in_graph = tf.autograph.experimental.do_not_convert
"""Marks a function that has no Python control flow on tensors: converting it would take 0.1 s."""


def shuffled_range(size: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns 0 .. size - 1 in an order that depends on the seed alone, int64 [size]."""
    order = tf.range(tf.cast(size, tf.int64), dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(order, seed, alg=_ALGORITHM)


def random_access_part(
    ids: Sequence[str], labels: np.ndarray, read: Callable[[tf.Tensor], tf.Tensor]
) -> Part:
    """Returns a part whose example at a position (int64 scalar) `read` returns, in a graph."""

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        chosen = tf.constant(positions, tf.int64)
        indices = tf.data.Dataset.range(len(positions))
        if seed is not None:
            indices = tf.data.Dataset.from_tensor_slices(shuffled_range(len(positions), seed))

        @in_graph
        def example(index: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"index": index, "image": read(chosen[index])}

        return indices.map(example, num_parallel_calls=THREADS, deterministic=True)

    return Part(tuple(ids), labels, stream)


def file_part(ids: Sequence[str], paths: Sequence[str], labels: np.ndarray) -> Part:
    """Returns a part of encoded image files."""
    files = tf.constant(list(paths), tf.string)
    part = random_access_part(ids, labels, lambda position: tf.io.read_file(files[position]))
    return dataclasses.replace(part, paths=tuple(paths))


def sequential_part(ids: Sequence[str], labels: np.ndarray, images: tf.data.Dataset) -> Part:
    """Returns a part whose images can only be read one after the other.

    Where there are more than 8192 examples, the random order is one of neighbourhoods: each 8192
    that follow one another are shuffled, from a random place on.
    """

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        lookup = np.full(len(labels), -1, np.int64)
        lookup[positions] = np.arange(len(positions))
        index_of = tf.constant(lookup)

        @in_graph
        def example(place: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"index": index_of[place], "image": image}

        examples = images.enumerate().map(example).filter(in_graph(lambda one: one["index"] >= 0))
        return examples if seed is None else _shuffled(examples, len(positions), seed)

    return Part(tuple(ids), labels, stream)


def _shuffled(examples: tf.data.Dataset, size: int, seed: tf.Tensor) -> tf.data.Dataset:
    # Not Dataset.shuffle: its order also depends on the global seed of the process.
    if size > _SHUFFLED_AT_ONCE:
        start = tf.random.stateless_uniform([], seed, 0, size, tf.int64, _ALGORITHM)
        examples = examples.skip(start).concatenate(examples.take(start))

    @in_graph
    def shuffle(number: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        own_seed = tf.random.experimental.stateless_fold_in(seed, number)
        order = shuffled_range(tf.size(batch["index"], tf.int64), own_seed)
        return {name: tf.gather(values, order) for name, values in batch.items()}

    return examples.batch(_SHUFFLED_AT_ONCE).enumerate().map(shuffle).unbatch()
