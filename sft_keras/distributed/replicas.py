"""Several devices that train one model: one in each of several processes, or several in one.

See docs/decisions/several-workers.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.core.errors import RecipeError
from sft_keras.distributed.device import Devices, Share, filled_up
from sft_keras.distributed.sync_batch_norm import over_all_devices
from sft_keras.recipe.recipe import Recipe

_PACKED = 2**25  # bytes that are sent at once
_APART = 1_000_003  # between the random seeds of workers
_NUMBER = np.dtype(np.int32)


class _Several(Devices):
    """What several devices have in common: a strategy that takes steps on each and adds up."""

    _strategy: tf.distribute.Strategy

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """See `Devices.run`."""
        return self._strategy.run(step, args=arguments)

    def total(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        """See `Devices.total`."""
        context = tf.distribute.get_replica_context()
        own = [tf.identity(each) for each in tensors]  # on the device, which arguments are not
        return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

    def filled(self, batch: Any) -> tuple[Any, int]:
        """See `Devices.filled`."""
        return filled_up(batch, self.count)

    def synchronized(
        self, layers: Sequence[keras.layers.BatchNormalization]
    ) -> contextlib.AbstractContextManager[None]:
        """See `Devices.synchronized`."""
        return over_all_devices(layers)


class Replicas(_Several):
    """Several devices of this machine in one process, each with a copy of the weights."""

    updates_within = True

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy, self.count = strategy, strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """See `Devices.scope`."""
        return self._strategy.scope()

    def require_possible(self, recipe: Recipe) -> None:
        """See `Devices.require_possible`."""
        require_an_example_each(recipe, self.count, "devices")
        for stage in recipe.stages:
            if stage.accumulate > 1:
                raise RecipeError(
                    f"`stages.{stage.name}.accumulate` cannot be used on several devices of one "
                    f"process, where Keras fails. Received: {stage.accumulate} with {self.count} "
                    "devices. Together they hold larger batches: raise `data.batch_size` instead, "
                    "or start a process for each device, see docs/scale.md."
                )
            if stage.learning_rate == "auto":
                raise RecipeError(
                    f"`stages.{stage.name}.learning_rate` cannot be 'auto' on several devices of "
                    "one process: the range test is for one. Find it with --strategy=one, and set "
                    "it."
                )

    def prepare(self, optimizer: keras.optimizers.Optimizer) -> None:
        """See `Devices.prepare`."""
        # Keras would sum them, which clipping and loss scaling have to come after.
        for each in (optimizer, getattr(optimizer, "inner_optimizer", None)):
            if each is not None:
                each._all_reduce_sum_gradients = lambda gradients: gradients

    def on_shares(
        self, step: Callable[..., Any], batch: Any, rows: tf.Tensor, *arguments: Any
    ) -> Any:
        """See `Devices.on_shares`."""
        parts = [self.part_of(batch, rows, index) for index in range(self.count)]
        return self.run(
            lambda part, *others: step(Share(*part), *others), self.handed_out(parts), *arguments
        )

    def part_of(self, batch: Any, rows: tf.Tensor, index: int) -> tuple[Any, tf.Tensor]:
        """Returns what one of the devices computes of a batch, and what of it counts."""
        return part_of(batch, rows, index, self.count)

    def handed_out(self, parts: Sequence[Any]) -> Any:
        """Returns what `run` takes for each device to get a part of its own."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    def each(self, step: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """See `Devices.each`."""
        results = self.run(step, self.handed_out(parts))
        local = [
            [self._strategy.experimental_local_results(tensor) for tensor in tensors]
            for tensors in results
        ]
        return [
            [[tensor[number] for tensor in tensors] for tensors in local]
            for number in range(len(parts))
        ]

    def one_of(self, results: Any) -> Any:
        """See `Devices.one_of`."""
        return [self._strategy.experimental_local_results(each)[0] for each in results]

    def describe(self, batch_size: int) -> str:
        """See `Devices.describe`."""
        return f"{self.count} devices of this machine; {_shared(batch_size, self.count)}"


def require_an_example_each(recipe: Recipe, count: int, what: str) -> None:
    """Checks that a batch can be shared by `count` workers or devices.

    Raises:
      RecipeError: If it has fewer examples.
    """
    size = recipe.data.batch_size
    if size < count:
        raise RecipeError(
            f"`data.batch_size` is that of all {what} together, and must give each of them an "
            f"example. Received: {size} for {count} {what}."
        )


def part_of(
    batch: Any, rows: tf.Tensor, index: int | tf.Tensor, count: int
) -> tuple[Any, tf.Tensor]:
    """Returns what one of `count` devices computes of a batch, and what of it counts, as in Share.

    Parts differ by one row at the most.
    """
    size = tf.shape(tf.nest.flatten(batch)[0])[0]
    return rows_between(batch, rows, size * index // count, size * (index + 1) // count)


def rows_between(
    batch: Any, rows: tf.Tensor, first: int | tf.Tensor, end: int | tf.Tensor
) -> tuple[Any, tf.Tensor]:
    """Returns some rows of a batch, and which of them count, as in Share: before row `rows`."""
    part = tf.nest.map_structure(lambda tensor: tensor[first:end], batch)
    return part, tf.cast(tf.range(first, end) < rows, tf.float32)


def _shared(batch_size: int, count: int) -> str:
    least, more = divmod(batch_size, count)
    computes = f"{least} or {least + 1}" if more else f"{least}"
    return (
        f"of each batch of {batch_size} examples each computes {computes}, so learning rates stay "
        "as they are"
    )
