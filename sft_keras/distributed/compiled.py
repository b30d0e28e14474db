"""Devices that XLA compiles for, as TPUs: batches of one size, and texts of few lengths.

Each shape is compiled anew, which takes longer than many steps. So a smaller batch is filled up
with rows that nothing counts, and all devices compute equally many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from sft_keras.distributed.device import filled_up
from sft_keras.distributed.replicas import Replicas, rows_between


class CompiledReplicas(Replicas):
    """Devices of this machine that each compute as many rows of every batch."""

    compiles_shapes = True
    # Else a TPU's batches of any size would be allowed, and padded unseen.
    _options = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)

    def __init__(self, strategy: tf.distribute.Strategy, batch_size: int) -> None:
        """Takes a strategy; `batch_size` is that of all devices together."""
        super().__init__(strategy)
        self._each = -(-batch_size // self.count)

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """See `Devices.run`."""
        return self._strategy.run(step, args=arguments, options=self._options)

    def traced(
        self, function: Callable[..., Any], signature: Sequence[Any], compiles: bool = False
    ) -> Callable[..., Any]:
        """See `Devices.traced`; a graph for each shape, in which it is known."""

        def program(*arguments: Any) -> Any:  # after whose name TPUs' are called: not "<lambda>"
            return function(*arguments)

        graph = tf.function(program, autograph=False)
        graph._omit_frequent_tracing_warning = True  # there are as many as there are shapes
        return graph

    def filled(self, batch: Any) -> tuple[Any, int]:
        """See `Devices.filled`."""
        return filled_up(batch, self._each * self.count)

    def part_of(self, batch: Any, rows: tf.Tensor, index: int) -> tuple[Any, tf.Tensor]:
        """See `Replicas.part_of`."""
        return rows_between(batch, rows, index * self._each, (index + 1) * self._each)

    def outputs(self, compute: Callable[[Any], Any], inputs: Any) -> Any:
        """See `Devices.outputs`; of inputs that are `filled`."""
        parts = [self.part_of(inputs, tf.constant(0), index)[0] for index in range(self.count)]
        given = self.run(compute, self.handed_out(parts))
        return tf.nest.map_structure(
            lambda each: tf.concat(self._strategy.experimental_local_results(each), axis=0), given
        )

    def describe(self, batch_size: int) -> str:
        """See `Devices.describe`."""
        rows = self._each * self.count
        extra = f" (of {rows}: {rows - batch_size} fill up, and count for nothing)"
        return (
            f"{self.count} devices of this machine; of each batch of {batch_size} examples each "
            f"computes {self._each} rows{extra if rows > batch_size else ''}, so learning rates "
            "stay as they are"
        )
