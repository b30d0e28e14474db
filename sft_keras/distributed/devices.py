"""The devices a stage trains on: one, several on this machine, or one in each of several processes.

All devices hold the same weights and take the same steps (synchronous data parallelism). Each one
computes the gradients of its shard of the batch; all of them apply the sum:

    batch -> [ shard -> gradients ] -> all-reduce (sum) -> optimizer -> weights
               on each device                              identical on each device

`Devices` is the single-device case and the interface; `Replicas` (several devices in one process),
`XlaReplicas` (TPU cores) and `Workers` (several processes) override what differs. The design is
explained in docs/decisions/several-workers.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.recipe.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of a batch that one device computes.

    Attributes:
      batch: Its rows of the batch, in the structure of the batch.
      row_mask: float32 [rows], 1 for an example and 0 for padding. None if no row is padding.
    """

    batch: Any
    row_mask: tf.Tensor | None = None


class Devices:
    """A single device, and the interface of every kind of training devices.

    Attributes:
      num_replicas: The number of devices that train together, in all processes.
      num_workers: The number of processes that train together.
      worker_index: The index of this process; 0 is the chief.
      updates_on_replicas: Whether every replica applies the gradients to its own copy of the
        weights inside `run_on_shards`. If False, the caller applies them once, outside.
      needs_static_shapes: Whether programs are compiled per shape, so that batches should have one
        size and texts few lengths.
      dtype_policy: The dtype policy to use if the recipe leaves it open; None to decide by the
        GPUs that are present.
    """

    num_replicas = 1
    num_workers = 1
    worker_index = 0
    updates_on_replicas = False
    needs_static_shapes = False
    dtype_policy: str | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.worker_index == 0

    @property
    def num_local_replicas(self) -> int:
        """The number of devices of this process."""
        return self.num_replicas // self.num_workers

    def is_assigned(self, index: Any) -> Any:
        """Return whether this process computes work item `index` (round-robin; int or array)."""
        return index % self.num_workers == self.worker_index

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which models, optimizers and metrics must be created."""
        return contextlib.nullcontext()

    def validate(self, recipe: Recipe) -> None:
        """Check that these devices can train the recipe.

        Raises:
          RecipeError: If a setting of the recipe is not supported on these devices.
        """
        return

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on every local device, from within a graph.

        Args:
          step: Called in the replica context, where `all_reduce` is available.
          *arguments: Its arguments, the same or per replica (see `Replicas.distribute`).

        Returns:
          The results per replica; `first_local_result` reads the first.
        """
        return step(*arguments)

    def run_per_replica(self, step: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """Call a function on one part per local device, from within a graph.

        Args:
          step: From a part to a list of lists of tensors.
          parts: `num_local_replicas` parts of the same shapes.

        Returns:
          The results of `step`, in the order of `parts`.
        """
        return [step(part) for part in parts]

    def prepare_optimizer(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Make an optimizer apply gradients as they are: they are sums over all devices already."""
        return

    def trace(
        self, function: Callable[..., Any], signature: Sequence[Any], jit_compile: bool = False
    ) -> Callable[..., Any]:
        """Return a function as a `tf.function`.

        Args:
          function: The function to trace.
          signature: A TensorSpec per argument; dimensions of None accept any size.
          jit_compile: Whether to compile it with XLA.
        """
        return tf.function(
            function, input_signature=signature, autograph=False, jit_compile=jit_compile
        )

    def pad_batch(self, batch: Any) -> tuple[Any, int]:
        """Pad a batch so that it can be sharded.

        Every device needs at least one row, and TPU cores need equally many. Padding repeats the
        last row.

        Returns:
          The padded batch and the number of its rows that are examples; these come first.
        """
        return batch, tf.nest.flatten(batch)[0].shape[0]

    def run_on_shards(
        self, step: Callable[..., Any], batch: Any, rows: tf.Tensor, *arguments: Any
    ) -> Any:
        """Call `step(shard, *arguments)` on every local device, from within a graph.

        Args:
          step: See `run`.
          batch: A batch from `pad_batch`.
          rows: int32 scalar, the number of its rows that are examples.
          *arguments: Passed on to `step`.

        Returns:
          The results per replica, see `run`.
        """
        return step(Shard(batch), *arguments)

    def make_predict_function(
        self, compute: Callable[[Any], Any], signature: Any
    ) -> Callable[[Any], Any]:
        """Return a traced function that computes outputs for a batch of any size.

        Args:
          compute: From inputs [rows, ...] to outputs [rows, ...], each row independent of others.
          signature: The TensorSpec structure of the inputs.
        """
        traced = self.trace(lambda inputs: self.map_rows(compute, inputs), [signature])

        def predict(inputs: Any) -> Any:
            padded, rows = self.pad_batch(inputs)
            outputs = traced(padded)
            if padded is inputs:
                return outputs
            return tf.nest.map_structure(lambda tensor: tensor[:rows], outputs)

        return predict

    def map_rows(self, compute: Callable[[Any], Any], inputs: Any) -> Any:
        """Return the outputs of a row-wise function for padded inputs, from within a graph."""
        return compute(inputs)

    def first_local_result(self, results: Any) -> Any:
        """Return the results of `run` on the first device of this process."""
        return results

    def all_reduce(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        """Return the sum of each tensor over all devices. Call it inside `run`."""
        return list(tensors)

    def sum_over_workers(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Return the sum of each value over all processes. Call it outside graphs."""
        return [np.asarray(value) for value in values]

    def all_gather(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Return the arrays of all processes, each [num_workers, ...], bit for bit.

        Args:
          values: Arrays; each must have the same shape and dtype in every process.
        """
        return [np.asarray(value)[None] for value in values]

    def all_agree(self, condition: bool) -> bool:
        """Return whether a condition holds in every process."""
        return bool(self.all_gather([np.array(condition)])[0].all())

    def require_same(self, what: str, value: str) -> None:
        """Check that a value is the same in all processes.

        Args:
          what: A description of the value, for the error message.
          value: The value in this process.

        Raises:
          ClusterError: If it differs from the chief's in any process; raised in all of them.
        """
        return

    def barrier(self) -> None:
        """Wait until every process has reached this point."""
        return

    def offset_seeds(self, states: Mapping[str, keras.Variable]) -> None:
        """Offset the chief's random states by worker, so that dropout masks differ."""
        return

    def sync_batch_norm(
        self, layers: Sequence[keras.layers.BatchNormalization]
    ) -> contextlib.AbstractContextManager[None]:
        """Return the context in which layers that train use the statistics of the whole batch."""
        return contextlib.nullcontext()

    def describe(self, batch_size: int) -> str:
        """Return how a batch is sharded, for the log; "" for a single device."""
        return ""


ONE_DEVICE = Devices()


def pad_rows(batch: Any, minimum: int) -> tuple[Any, int]:
    """Pad a batch to at least `minimum` rows by repeating its last row.

    Returns:
      The padded batch, and the number of rows before padding.
    """
    rows = tf.nest.flatten(batch)[0].shape[0]
    if rows < minimum:
        indices = tf.minimum(tf.range(minimum), rows - 1)
        batch = tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), batch)
    return batch, rows
