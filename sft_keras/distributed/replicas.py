"""Several devices in one process, each with a copy of the weights (`MirroredStrategy`).

Also the parts shared with `Workers`: collectives, and the sharding of a batch. The design is
explained in docs/decisions/several-workers.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from typing_extensions import override

from sft_keras.core.errors import RecipeError
from sft_keras.distributed.devices import Devices, Shard, pad_rows
from sft_keras.distributed.sync_batch_norm import synchronized_statistics
from sft_keras.recipe.recipe import Recipe


class StrategyDevices(Devices):
    """Several devices under a `tf.distribute` strategy, which provides the collectives."""

    _strategy: tf.distribute.Strategy

    @override
    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return self._strategy.run(step, args=arguments)

    @override
    def all_reduce(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        # `identity` places them on the replica's device; arguments of `run` are elsewhere.
        local = [tf.identity(tensor) for tensor in tensors]
        return context.all_reduce(tf.distribute.ReduceOp.SUM, local)

    @override
    def pad_batch(self, batch: Any) -> tuple[Any, int]:
        return pad_rows(batch, self.num_replicas)

    @override
    def sync_batch_norm(
        self, layers: Sequence[keras.layers.BatchNormalization]
    ) -> contextlib.AbstractContextManager[None]:
        return synchronized_statistics(layers)


class Replicas(StrategyDevices):
    """Several devices of this machine in one process, each with a copy of the weights.

    Example:

    ```python
    strategy = tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])
    devices = Replicas(strategy)
    with devices.scope():
        model = build_model()
    ```
    """

    updates_on_replicas = True

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy, self.num_replicas = strategy, strategy.num_replicas_in_sync

    @override
    def scope(self) -> contextlib.AbstractContextManager[Any]:
        return self._strategy.scope()

    @override
    def validate(self, recipe: Recipe) -> None:
        require_example_per_replica(recipe, self.num_replicas, "devices")
        for stage in recipe.stages:
            if stage.accumulate > 1:
                raise RecipeError(
                    f"`stages.{stage.name}.accumulate` cannot be used on several devices of one "
                    "process: gradient accumulation in Keras fails there. "
                    f"Received: {stage.accumulate} with {self.num_replicas} devices. Raise "
                    "`data.batch_size` instead, since together they hold larger batches, or start "
                    "one process per device, see docs/scale.md."
                )
            if stage.learning_rate == "auto":
                raise RecipeError(
                    f"`stages.{stage.name}.learning_rate` cannot be 'auto' on several devices of "
                    "one process: the learning-rate finder needs a single device. Find the rate "
                    "with --strategy=one and set it as a number."
                )

    @override
    def prepare_optimizer(self, optimizer: keras.optimizers.Optimizer) -> None:
        # Keras would all-reduce the gradients again, after clipping and loss scaling. These must
        # see the sum, so the sum is taken before.
        for wrapped in (optimizer, getattr(optimizer, "inner_optimizer", None)):
            if wrapped is not None:
                wrapped._all_reduce_sum_gradients = lambda gradients: gradients

    @override
    def run_on_shards(
        self, step: Callable[..., Any], batch: Any, rows: tf.Tensor, *arguments: Any
    ) -> Any:
        shards = [self.shard(batch, rows, index) for index in range(self.num_replicas)]
        return self.run(
            lambda shard, *rest: step(Shard(*shard), *rest), self.distribute(shards), *arguments
        )

    def shard(self, batch: Any, rows: tf.Tensor, index: int) -> tuple[Any, tf.Tensor]:
        """Return the batch and row mask of replica `index`, the fields of its `Shard`."""
        return shard_batch(batch, rows, index, self.num_replicas)

    def distribute(self, parts: Sequence[Any]) -> Any:
        """Return the per-replica value that gives replica i `parts[i]`, as an argument of `run`."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    @override
    def run_per_replica(self, step: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        results = self.run(step, self.distribute(parts))
        local = [
            [self._strategy.experimental_local_results(tensor) for tensor in tensors]
            for tensors in results
        ]
        return [
            [[tensor[replica] for tensor in tensors] for tensors in local]
            for replica in range(len(parts))
        ]

    @override
    def first_local_result(self, results: Any) -> Any:
        return [self._strategy.experimental_local_results(result)[0] for result in results]

    @override
    def describe(self, batch_size: int) -> str:
        sharding = describe_sharding(batch_size, self.num_replicas)
        return f"{self.num_replicas} devices of this machine; {sharding}"


def require_example_per_replica(recipe: Recipe, count: int, what: str) -> None:
    """Check that a batch has at least one example for each of `count` devices or workers.

    Args:
      recipe: The recipe, whose batch size is checked.
      count: How many there are.
      what: "devices" or "workers", for the error message.

    Raises:
      RecipeError: If a batch has fewer examples.
    """
    size = recipe.data.batch_size
    if size < count:
        raise RecipeError(
            f"`data.batch_size` is the global batch size and must give each of the {what} at "
            f"least one example. Received: {size} for {count} {what}."
        )


def shard_batch(
    batch: Any, rows: tf.Tensor, index: int | tf.Tensor, count: int
) -> tuple[Any, tf.Tensor]:
    """Return shard `index` of `count` of a batch; shard sizes differ by at most one row.

    Args:
      batch: Tensors with the same number of rows, at least `count`.
      rows: int32 scalar, how many of the rows, the first ones, are examples and not padding.
      index: Which shard.
      count: The number of shards.

    Returns:
      The rows of the shard, and their mask, the fields of a `Shard`.
    """
    size = tf.shape(tf.nest.flatten(batch)[0])[0]
    return slice_rows(batch, rows, size * index // count, size * (index + 1) // count)


def slice_rows(
    batch: Any, rows: tf.Tensor, start: int | tf.Tensor, stop: int | tf.Tensor
) -> tuple[Any, tf.Tensor]:
    """Return rows `start` to `stop` of a batch, and their mask: float32 [stop - start]."""
    part = tf.nest.map_structure(lambda tensor: tensor[start:stop], batch)
    return part, tf.cast(tf.range(start, stop) < rows, tf.float32)


def describe_sharding(batch_size: int, count: int) -> str:
    """Return how a batch is divided among `count` devices or workers, for the log."""
    smallest, remainder = divmod(batch_size, count)
    sizes = f"{smallest} or {smallest + 1}" if remainder else f"{smallest}"
    return (
        f"each computes {sizes} of the {batch_size} examples of a batch, so learning rates stay "
        "the same"
    )
