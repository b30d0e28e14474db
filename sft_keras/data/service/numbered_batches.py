"""Batches of image files by their number, which any process that sees the files can make alike."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.data.examples import Examples
from sft_keras.data.features import Structure
from sft_keras.data.streams import in_graph

_AT_A_TIME = 2  # batches that a process makes, so that the end of one is no pause


@dataclasses.dataclass(frozen=True)
class NumberedBatches:
    """Rounds through some examples of a split, cut into batches, which are numbered throughout.

    Attributes:
      examples: The split, of files.
      read: See `Prepared.read`.
      size: Examples a batch; the last of a round may have fewer.
      round_size: How many examples a round has.
      order: From the number of a round, int64 scalar (symbolic or not), to the positions of its
        examples, int64 [round_size].
    """

    examples: Examples
    read: Callable[[dict[str, tf.Tensor]], Structure]
    size: int
    round_size: int
    order: Callable[[tf.Tensor], tf.Tensor]

    @classmethod
    def in_stored_order(
        cls,
        examples: Examples,
        read: Callable[[dict[str, tf.Tensor]], Structure],
        size: int,
        positions: np.ndarray | None = None,
    ) -> NumberedBatches:
        """Returns rounds through the examples at `positions`, int64 [m], or all, in that order."""
        chosen = np.arange(len(examples)) if positions is None else positions
        return cls(examples, read, size, len(chosen), lambda _: tf.constant(chosen, tf.int64))

    @property
    def steps(self) -> int:
        """How many batches a round has."""
        return -(-self.round_size // self.size)

    def dataset(self, first: int, end: int | None) -> tf.data.Dataset:
        """Returns the batches from `first` to before `end`, without one if that is None.

        Elements are {"number": int64 scalar; "index": int64 [m], the positions of the examples that
        could be read, in the batch's order; "input": what `read` gave for them, [m, ...]}. A batch
        of which none could be read is left out.
        """
        numbers = tf.data.Dataset.range(first, tf.int64.max if end is None else end)
        batches = numbers.interleave(
            self._batch, cycle_length=_AT_A_TIME, num_parallel_calls=_AT_A_TIME
        )
        options = tf.data.Options()
        # Its thread holds up the end of a job by seconds. Without, a worker reads as many files at
        # a time as it has cores, up to 16.
        options.autotune.enabled = False
        return batches.with_options(options)

    def read_here(self, number: int) -> dict[str, Any] | None:
        """Returns a batch as NumPy arrays; None if nothing of it can be read."""
        return next(self.dataset(number, number + 1).as_numpy_iterator(), None)

    def rows(self, number: int) -> np.ndarray:
        """Returns the positions of the examples in a batch, int64 [m]."""
        start = number % self.steps * self.size
        return self._round(number // self.steps)[start : start + self.size]

    @functools.cached_property
    def _paths(self) -> list[str]:
        return [os.path.abspath(path) for path in self.examples.paths]

    @functools.cached_property
    def _round(self) -> Callable[[int], np.ndarray]:
        """From the number of a round to the positions of its examples; remembers the last ones."""
        return functools.lru_cache(2)(
            lambda number: self.order(tf.constant(number, tf.int64)).numpy()
        )

    @in_graph
    def _batch(self, number: tf.Tensor) -> tf.data.Dataset:
        paths = tf.constant(self._paths)
        start = number % self.steps * self.size
        rows = self.order(number // self.steps)[start : start + self.size]

        @in_graph
        def example(row: tf.Tensor) -> dict[str, Any]:
            raw = {"index": row, "image": tf.io.read_file(paths[row])}
            return {"number": number, "index": row, "input": self.read(raw)}

        examples = tf.data.Dataset.from_tensor_slices(rows).map(
            example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        # What cannot be read must not end the work of all; whoever asked sees that it is lacking.
        batches = examples.ignore_errors().batch(self.size)
        return batches.map(in_graph(lambda batch: {**batch, "number": number}))
