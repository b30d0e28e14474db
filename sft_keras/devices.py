"""What a stage trains on: one device, or one in each of several processes.

Several workers hold the same weights and take the same steps. Of each batch every one computes the
gradient of its own examples; the sums over all are what each then updates its weights with:

    batch -> [ own examples -> gradients ] -> sum over workers -> optimizer -> weights
               in each worker                 the same in each worker

Between the sum and the weights nothing knows of several workers: optimizers, clipping, averages,
loss scaling and accumulation work as on one device. See docs/decisions/several-workers.md.
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
from sft_keras.errors import ClusterError

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
      count: How many workers train together.
      index: Which of them this process is.
    """

    count = 1
    index = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what a run leaves behind."""
        return self.index == 0

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function in which `total` may be called; in a graph."""
        return step(*arguments)

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


class Workers(Devices):
    """One device in each of several processes, over `tf.distribute`.

    Make it before anything else of TensorFlow is used. TF_CONFIG must say what `cluster` does.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.count, self.index = len(cluster.addresses), cluster.index
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=_PACKED)
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        if self._strategy.num_replicas_in_sync != self.count:
            raise ClusterError(
                "Each worker must have one device. Received: "
                f"{self._strategy.num_replicas_in_sync} devices in {self.count} workers. Start a "
                "process for each GPU, with its number in CUDA_VISIBLE_DEVICES."
            )
        self._summed = tf.function(lambda values: self.run(self.total, values), autograph=False)

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """See `Devices.run`."""
        return self._strategy.run(step, args=arguments)

    def total(self, tensors: Sequence[Any]) -> list[tf.Tensor]:
        """See `Devices.total`."""
        context = tf.distribute.get_replica_context()
        # Dense, which those of embeddings may not be; and on the device, which arguments are not.
        dense = [tf.identity(tf.convert_to_tensor(each)) for each in tensors]
        return context.all_reduce(tf.distribute.ReduceOp.SUM, dense)

    def share_of(self, batch: Any) -> Share:
        """See `Devices.share_of`."""
        size = tf.shape(tf.nest.flatten(batch)[0])[0]
        is_short = size < self.count
        first = tf.where(is_short, 0, size * self.index // self.count)
        end = tf.where(is_short, size, size * (self.index + 1) // self.count)
        counts_all = size if self.is_chief else 0
        return Share(
            tf.nest.map_structure(lambda tensor: tensor[first:end], batch),
            tf.where(is_short, counts_all, end - first),
            tf.where(is_short, 1.0 / self.count, 1.0),
        )

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

    def in_words(self, batch_size: int) -> str:
        """See `Devices.in_words`."""
        sizes = [
            batch_size * (n + 1) // self.count - batch_size * n // self.count
            for n in range(self.count)
        ]
        shared = f"{sizes[0]}" if len(set(sizes)) == 1 else " or ".join(map(str, sorted({*sizes})))
        return (
            f"{self.count} workers; of each batch of {batch_size} examples each computes {shared}, "
            "so learning rates stay as they are"
        )
