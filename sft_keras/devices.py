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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Share:
    """The examples of a batch that one worker computes.

    Attributes:
      batch: Their part of the batch.
      rows: How many of them are this worker's to count, int32 scalar, the first ones. All, but of
        a batch with fewer examples than there are workers: there each computes all of them, and
        the first counts.
      scale: What they count for in sums over the workers, float32 scalar; 1 for all but such.
    """

    batch: Any
    rows: tf.Tensor
    scale: tf.Tensor


class Devices:
    """One device.

    Attributes:
      count: How many devices train together.
      processes: How many processes that takes.
      index: Which of the processes this one is.
    """

    count = 1
    processes = 1
    index = 0

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
        """Has an optimizer take gradients that are sums over all devices, for `update`."""
        return

    def update(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Runs a function that changes weights alike on each device; in a graph."""
        step(*arguments)

    def one_of(self, results: Any) -> Any:
        """Returns what `run` gave on this process' first device."""
        return results

    def total(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        """Returns the sums over all workers; within `run`."""
        return list(tensors)

    def share_of(self, batch: Any) -> Share:
        """Returns what this worker computes of a batch; in a graph."""
        return Share(batch, tf.shape(tf.nest.flatten(batch)[0])[0], tf.constant(1.0))

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

    @contextlib.contextmanager
    def synchronized(self, layers: Sequence[keras.Layer]) -> Iterator[None]:
        """Within the block layers of batch normalization that train look at the whole batch."""
        yield

    def in_words(self, batch_size: int) -> str:
        """Returns how a batch is shared, for the log; "" where it is not."""
        return ""


ONE_DEVICE = Devices()
