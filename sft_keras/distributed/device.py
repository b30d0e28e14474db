"""What a stage trains on: one device, several of this machine, or one in each of several processes.

Several devices hold the same weights and take the same steps. Of each batch every one computes the
gradient of its own examples; the sums over all are what each then updates its weights with:

    batch -> [ own examples -> gradients ] -> sum over devices -> optimizer -> weights
               on each device                 the same on each device

See docs/decisions/several-workers.md.
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
class Share:
    """The examples of a batch that one device computes.

    Attributes:
      batch: Their part of the batch.
      counts: float32 [m], 1 for each of them that counts, and 0 for those with which the batch was
        filled up; None where all count.
    """

    batch: Any
    counts: tf.Tensor | None = None


class Devices:
    """One device.

    Attributes:
      count: How many devices train together.
      processes: How many processes that takes.
      index: Which of the processes this one is.
      updates_within: Whether each device changes a copy of the weights that is its own, within
        `on_shares`; else this process changes them, outside.
      compiles_shapes: Whether what is computed is compiled anew for each shape, so that there
        should be few.
      precision: The dtype policy to compute in where the recipe leaves it open; None for what GPUs
        are there.
    """

    count = 1
    processes = 1
    index = 0
    updates_within = False
    compiles_shapes = False
    precision: str | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what a run leaves behind."""
        return self.index == 0

    @property
    def devices_here(self) -> int:
        """How many of the devices are this process'."""
        return self.count // self.processes

    def has_turn(self, number: Any) -> Any:
        """Returns whether this process computes the piece of work of a number, or of each."""
        return number % self.processes == self.index

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the block in which models, optimizers and metrics are made."""
        return contextlib.nullcontext()

    def require_possible(self, recipe: Recipe) -> None:
        """Checks, before the start, that a recipe asks for nothing that cannot be done here.

        Raises:
          RecipeError: If it does.
        """
        return

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function on each device, in which `total` may be called; in a graph."""
        return step(*arguments)

    def each(self, step: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """Runs a function on as many parts as this process has devices, one on each; in a graph.

        Args:
          step: From a part to a list of lists of tensors.
          parts: One for each device of this process, of the same shapes.

        Returns:
          What `step` gave for each.
        """
        return [step(part) for part in parts]

    def prepare(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Has an optimizer take gradients that are sums over all devices."""
        return

    def traced(
        self, function: Callable[..., Any], signature: Sequence[Any], compiles: bool = False
    ) -> Callable[..., Any]:
        """Returns a function as a graph.

        Args:
          function: To be traced.
          signature: What it takes, of any size where that is None.
          compiles: Whether XLA compiles it.
        """
        return tf.function(
            function, input_signature=signature, autograph=False, jit_compile=compiles
        )

    def filled(self, batch: Any) -> tuple[Any, int]:
        """Returns a batch that can be shared out, and how many of its rows count: the first ones.

        Those behind repeat the last one, where devices must have a row each, or all as many.
        """
        return batch, tf.nest.flatten(batch)[0].shape[0]

    def on_shares(
        self, step: Callable[..., Any], batch: Any, rows: tf.Tensor, *arguments: Any
    ) -> Any:
        """Runs `step(share, *arguments)` on each device, in a graph; see `filled` and `run`."""
        return step(Share(batch), *arguments)

    def asking(self, compute: Callable[[Any], Any], signature: Any) -> Callable[[Any], Any]:
        """Returns a function from inputs, [rows, ...], to what `compute` gives of them, as a graph.

        Args:
          compute: Of rows that have nothing to do with each other.
          signature: Of its inputs.
        """
        traced = self.traced(lambda inputs: self.outputs(compute, inputs), [signature])

        def ask(inputs: Any) -> Any:
            filled, rows = self.filled(inputs)
            outputs = traced(filled)
            if filled is inputs:
                return outputs
            return tf.nest.map_structure(lambda each: each[:rows], outputs)

        return ask

    def outputs(self, compute: Callable[[Any], Any], inputs: Any) -> Any:
        """Returns what a function gives of each row of its inputs, in a graph."""
        return compute(inputs)

    def one_of(self, results: Any) -> Any:
        """Returns what `run` gave on this process' first device."""
        return results

    def total(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        """Returns the sums over all workers; within `run`."""
        return list(tensors)

    def totals(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Returns the sums over all workers of what each has; outside of graphs."""
        return [np.asarray(value) for value in values]

    def gathered(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Returns what each process has of arrays of one shape, [processes, ...], bit for bit."""
        return [np.asarray(value)[None] for value in values]

    def all_agree(self, is_so: bool) -> bool:
        """Returns whether something is so in every process."""
        return bool(self.gathered([np.array(is_so)])[0].all())

    def require_same(self, what: str, value: str) -> None:
        """Checks that all workers have the same value of something.

        Raises:
          ClusterError: If one has another than the chief.
        """
        return

    def wait(self) -> None:
        """Waits for the others to come here too."""
        return

    def spread(self, states: Mapping[str, keras.Variable]) -> None:
        """Changes the states of random seeds, as the chief has them, so that workers differ."""
        return

    def synchronized(
        self, layers: Sequence[keras.layers.BatchNormalization]
    ) -> contextlib.AbstractContextManager[None]:
        """Returns the block in which such layers, if they train, look at the whole batch."""
        return contextlib.nullcontext()

    def describe(self, batch_size: int) -> str:
        """Returns how a batch is shared, for the log; "" where it is not."""
        return ""


ONE_DEVICE = Devices()


def filled_up(batch: Any, least: int) -> tuple[Any, int]:
    """Returns a batch of so many rows or more, and how many it had; its last row is repeated."""
    rows = tf.nest.flatten(batch)[0].shape[0]
    if rows < least:
        places = tf.minimum(tf.range(least), rows - 1)
        batch = tf.nest.map_structure(lambda each: tf.gather(each, places), batch)
    return batch, rows
