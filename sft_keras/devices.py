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
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.cluster import Cluster
from sft_keras.errors import ClusterError, RecipeError
from sft_keras.recipe import Recipe

_PACKED = 2**25  # bytes that are sent at once
_APART = 1_000_003  # between the random seeds of workers


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


class _Several(Devices):
    """What several devices have in common: a strategy that takes steps on each and adds up."""

    _strategy: tf.distribute.Strategy

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """See `Devices.run`."""
        return self._strategy.run(step, args=arguments)

    def total(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        """See `Devices.total`."""
        context = tf.distribute.get_replica_context()
        # Dense, which those of embeddings may not be; and on the device, which arguments are not.
        dense = [tf.identity(tf.convert_to_tensor(each)) for each in tensors]
        return context.all_reduce(tf.distribute.ReduceOp.SUM, dense)

    @contextlib.contextmanager
    def synchronized(self, layers: Sequence[keras.Layer]) -> Iterator[None]:
        """See `Devices.synchronized`."""
        before = [layer.synchronized for layer in layers]
        for layer in layers:
            layer.synchronized = True
        try:
            yield
        finally:
            for layer, was in zip(layers, before):
                layer.synchronized = was


class Workers(_Several):
    """One device in each of several processes, over `tf.distribute`.

    Make it before anything else of TensorFlow is used. TF_CONFIG must say what `cluster` does.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.count = self.processes = len(cluster.addresses)
        self.index = cluster.index
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=_PACKED)
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        if self._strategy.num_replicas_in_sync != self.count:
            raise ClusterError(
                "Each worker must have one device. Received: "
                f"{self._strategy.num_replicas_in_sync} devices in {self.count} workers. Start a "
                "process for each GPU, with its number in CUDA_VISIBLE_DEVICES."
            )
        self._summed = tf.function(lambda values: self.run(self.total, values), autograph=False)

    def share_of(self, batch: Any) -> Share:
        """See `Devices.share_of`."""
        return _part(batch, self.index, self.count)

    def totals(self, values: Sequence[Any]) -> list[np.ndarray]:
        """See `Devices.totals`."""
        given = [tf.convert_to_tensor(value) for value in values]
        return [each.numpy() for each in self._summed(given)] if given else []

    def require_same(self, what: str, value: str) -> None:
        """See `Devices.require_same`."""
        digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
        # As one row for each worker, to which the others add zeros.
        rows = np.zeros([self.count, len(digest)], np.int32)
        rows[self.index] = digest
        (found,) = self.totals([rows])
        others = [n for n in range(self.count) if not np.array_equal(found[n], found[0])]
        if others:
            raise ClusterError(
                f"All workers must have the same {what}. Received: another one in "
                f"{', '.join(map(self._cluster.name, others))} than in the chief. Is it the same "
                "data, the same weights file and the same kind of machine?"
            )

    def wait(self) -> None:
        """See `Devices.wait`."""
        self.totals([np.zeros([], np.int32)])

    def spread(self, states: Mapping[str, keras.Variable]) -> None:
        """See `Devices.spread`."""
        for state in states.values():
            value = state.numpy()
            apart = np.zeros_like(value)
            apart.flat[0] = self.index * _APART
            state.assign(value + apart)

    def in_words(self, batch_size: int) -> str:
        """See `Devices.in_words`."""
        return f"{self.count} workers; {_shared(batch_size, self.count)}"


class Replicas(_Several):
    """Several devices of this machine in one process, each with a copy of the weights."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy, self.count = strategy, strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """See `Devices.scope`."""
        return self._strategy.scope()

    def require_possible(self, recipe: Recipe) -> None:
        """See `Devices.require_possible`."""
        if recipe.data.batch_size < self.count:
            raise RecipeError(
                "`data.batch_size` is that of all devices together, and must give each of them an "
                f"example. Received: {recipe.data.batch_size} for {self.count} devices."
            )
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

    def update(self, step: Callable[..., Any], *arguments: Any) -> None:
        """See `Devices.update`."""
        self._strategy.run(step, args=arguments)

    def one_of(self, results: Any) -> Any:
        """See `Devices.one_of`."""
        return [self._strategy.experimental_local_results(each)[0] for each in results]

    def share_of(self, batch: Any) -> Share:
        """See `Devices.share_of`."""
        context = tf.distribute.get_replica_context()
        return _part(batch, context.replica_id_in_sync_group, self.count)

    def in_words(self, batch_size: int) -> str:
        """See `Devices.in_words`."""
        return f"{self.count} devices of this machine; {_shared(batch_size, self.count)}"


def _part(batch: Any, index: int | tf.Tensor, count: int) -> Share:
    """Returns what one of `count` devices computes of a batch."""
    size = tf.shape(tf.nest.flatten(batch)[0])[0]
    is_short = size < count
    first = tf.where(is_short, 0, size * index // count)
    end = tf.where(is_short, size, size * (index + 1) // count)
    all_or_none = tf.where(tf.equal(index, 0), size, 0)
    return Share(
        tf.nest.map_structure(lambda tensor: tensor[first:end], batch),
        tf.where(is_short, all_or_none, end - first),
        tf.where(is_short, 1.0 / count, 1.0),
    )


def _shared(batch_size: int, count: int) -> str:
    least, more = divmod(batch_size, count)
    computes = f"{least} or {least + 1}" if more else f"{least}"
    return (
        f"of each batch of {batch_size} examples each computes {computes}, so learning rates stay "
        "as they are"
    )
