"""Numbered batches of image files, which every process that sees the files builds identically."""

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

_PARALLEL_BATCHES = 2  # per process, so that nothing pauses at the end of a batch


@dataclasses.dataclass(frozen=True)
class NumberedBatches:
    """Rounds through some examples of a split, cut into consecutively numbered batches.

    Attributes:
      examples: The split, which must consist of files.
      read: As in `Prepared`.
      size: Examples per batch; the last batch of a round may be smaller.
      round_size: Examples per round.
      order: Maps the number of a round, int64 scalar (symbolic or not), to the positions of its
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
        """Return rounds through the examples at `positions`, int64 [m], or all, in that order."""
        selected = np.arange(len(examples)) if positions is None else positions
        return cls(examples, read, size, len(selected), lambda _: tf.constant(selected, tf.int64))

    @property
    def paths(self) -> tuple[str, ...]:
        """The file of each example of the split."""
        if self.examples.paths is None:
            raise ValueError(f"The examples must be files. Received: {self.examples}.")
        return self.examples.paths

    @property
    def steps(self) -> int:
        """The number of batches per round."""
        return -(-self.round_size // self.size)

    def dataset(self, first: int, end: int | None) -> tf.data.Dataset:
        """Return the batches from `first` up to, but not including, `end`; None for no end.

        Elements are {"number": int64 scalar; "index": int64 [m], the positions of the readable
        examples, in the batch's order; "input": their model inputs, [m, ...]}. A batch without
        readable examples is dropped.
        """
        numbers = tf.data.Dataset.range(first, tf.int64.max if end is None else end)
        batches = numbers.interleave(
            self._batch, cycle_length=_PARALLEL_BATCHES, num_parallel_calls=_PARALLEL_BATCHES
        )
        options = tf.data.Options()
        # The autotuning thread delays the end of a job by seconds. Without it, a worker reads as
        # many files at a time as it has cores, up to 16.
        options.autotune.enabled = False
        return batches.with_options(options)

    def read_here(self, number: int) -> dict[str, Any] | None:
        """Return a batch as NumPy arrays, read in this process; None if nothing is readable."""
        return next(self.dataset(number, number + 1).as_numpy_iterator(), None)

    def rows(self, number: int) -> np.ndarray:
        """Return the positions of the examples in a batch, int64 [m]."""
        start = number % self.steps * self.size
        return self._round_order(number // self.steps)[start : start + self.size]

    @functools.cached_property
    def _absolute_paths(self) -> list[str]:
        return [os.path.abspath(path) for path in self.paths]

    @functools.cached_property
    def _round_order(self) -> Callable[[int], np.ndarray]:
        """`order` as NumPy arrays; the last two rounds are cached."""
        return functools.lru_cache(2)(
            lambda number: self.order(tf.constant(number, tf.int64)).numpy()
        )

    @in_graph
    def _batch(self, number: tf.Tensor) -> tf.data.Dataset:
        paths = tf.constant(self._absolute_paths)
        start = number % self.steps * self.size
        rows = self.order(number // self.steps)[start : start + self.size]

        @in_graph
        def example(row: tf.Tensor) -> dict[str, Any]:
            raw = {"index": row, "image": tf.io.read_file(paths[row])}
            return {"number": number, "index": row, "input": self.read(raw)}

        examples = tf.data.Dataset.from_tensor_slices(rows).map(
            example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        # An unreadable file must not end the whole job; the client notices that it is missing.
        batches = examples.ignore_errors().batch(self.size)
        return batches.map(in_graph(lambda batch: {**batch, "number": number}))
