"""Datasets of raw examples, in stored order or in a stateless random order."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.data.listing import Part

THREADS = os.cpu_count() or 1
_SHUFFLE_WINDOW = 8192  # examples, about 1 GB of encoded photographs

# With "auto_select", the order would depend on the device that draws it.
_ALGORITHM = "philox"

in_graph = tf.autograph.experimental.do_not_convert
"""Mark a function without Python control flow on tensors: converting it would take 0.1 s."""


def shuffled_range(size: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return 0 .. size - 1 in an order that depends only on the seed, int64 [size]."""
    order = tf.range(tf.cast(size, tf.int64), dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(order, seed, alg=_ALGORITHM)


def indexed_stream(
    size: int,
    seed: tf.Tensor | None,
    read: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    *,
    parallel_calls: int | None = None,
) -> tf.data.Dataset:
    """Return a stream of random-access examples, in stored order or shuffled.

    Args:
      size: Number of examples, n.
      seed: int64 [2], the seed of the random order; None for stored order.
      read: Maps an index (int64 scalar, 0 .. n - 1) to the tensors of that example; runs in a
        graph.
      parallel_calls: How many examples to read at a time; None to read them one by one.

    Returns:
      A dataset of n elements, {"index": int64 scalar} with the tensors returned by `read`.
    """
    indices = tf.data.Dataset.range(size)
    if seed is not None:
        indices = tf.data.Dataset.from_tensor_slices(shuffled_range(size, seed))
    example = in_graph(lambda index: {"index": index, **read(index)})
    if parallel_calls is None:
        return indices.map(example)
    return indices.map(example, num_parallel_calls=parallel_calls, deterministic=True)


def random_access_part(
    ids: Sequence[str], labels: np.ndarray, read: Callable[[tf.Tensor], tf.Tensor]
) -> Part:
    """Return a part whose images can be read in any order.

    Args:
      ids: The id of each example.
      labels: int64 [n], the class of each example.
      read: Maps a position among the n (int64 scalar) to an image, encoded or as pixels; runs in a
        graph.
    """

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        selected = tf.constant(positions, tf.int64)
        return indexed_stream(
            len(positions),
            seed,
            lambda index: {"image": read(selected[index])},
            parallel_calls=THREADS,
        )

    return Part(tuple(ids), labels, stream)


def file_part(
    ids: Sequence[str],
    paths: Sequence[str],
    labels: np.ndarray,
    convert: Callable[[tf.Tensor], tf.Tensor] = lambda content: content,
) -> Part:
    """Return a part of encoded image files.

    Args:
      ids: The id of each example.
      paths: The file of each example.
      labels: int64 [n], the class of each example.
      convert: Maps the content of a file to an encoded image; runs in a graph.
    """
    files = tf.constant(list(paths), tf.string)
    part = random_access_part(
        ids, labels, lambda position: convert(tf.io.read_file(files[position]))
    )
    return dataclasses.replace(part, paths=tuple(paths))


def sequential_part(ids: Sequence[str], labels: np.ndarray, images: tf.data.Dataset) -> Part:
    """Return a part whose images can only be read one after the other.

    Shuffling is local if there are more than 8192 examples: the stream starts at a random position,
    and every 8192 consecutive examples are shuffled.

    Args:
      ids: The id of each example.
      labels: int64 [n], the class of each example.
      images: A dataset of n images, encoded or as pixels, always in the same order.
    """

    def stream(positions: np.ndarray, seed: tf.Tensor | None) -> tf.data.Dataset:
        lookup = np.full(len(labels), -1, np.int64)
        lookup[positions] = np.arange(len(positions))
        index_of = tf.constant(lookup)

        @in_graph
        def example(position: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"index": index_of[position], "image": image}

        is_selected = in_graph(lambda example: example["index"] >= 0)
        examples = images.enumerate().map(example).filter(is_selected)
        return examples if seed is None else _shuffled(examples, len(positions), seed)

    return Part(tuple(ids), labels, stream)


def _shuffled(examples: tf.data.Dataset, size: int, seed: tf.Tensor) -> tf.data.Dataset:
    # Not Dataset.shuffle: its order also depends on the global seed of the process.
    if size > _SHUFFLE_WINDOW:
        start = tf.random.stateless_uniform([], seed, 0, size, tf.int64, _ALGORITHM)
        examples = examples.skip(start).concatenate(examples.take(start))

    @in_graph
    def shuffle(number: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch_seed = tf.random.experimental.stateless_fold_in(seed, number)
        order = shuffled_range(tf.size(batch["index"], tf.int64), batch_seed)
        return {name: tf.gather(values, order) for name, values in batch.items()}

    return examples.batch(_SHUFFLE_WINDOW).enumerate().map(shuffle).unbatch()
