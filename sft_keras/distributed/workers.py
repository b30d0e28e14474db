"""Several processes, each with one device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.core.errors import ClusterError
from sft_keras.distributed.cluster import Cluster
from sft_keras.distributed.device import Share
from sft_keras.distributed.replicas import _APART, _NUMBER, _PACKED, _Several, _shared, part_of


class Workers(_Several):
    """One device in each of several processes, over `tf.distribute`.

    Make it before anything else of TensorFlow is used. They are those of `cluster`, whatever
    TF_CONFIG says.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.count = self.processes = len(cluster.addresses)
        self.index = cluster.index
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=_PACKED)
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
            _resolver(cluster), communication_options=options
        )
        if self._strategy.num_replicas_in_sync != self.count:
            raise ClusterError(
                "Each worker must have one device. Received: "
                f"{self._strategy.num_replicas_in_sync} devices in {self.count} workers. Start a "
                "process for each GPU, with its number in CUDA_VISIBLE_DEVICES."
            )
        self._summed = tf.function(lambda values: self.run(self.total, values), autograph=False)
        numbers = tf.TensorSpec([None], tf.int32)
        self._joined = tf.function(
            lambda values: self.run(_of_all, values), input_signature=[numbers], autograph=False
        )

    def on_shares(
        self, step: Callable[..., Any], batch: Any, rows: tf.Tensor, *arguments: Any
    ) -> Any:
        """See `Devices.on_shares`."""
        part = part_of(batch, rows, self.index, self.count)
        return self.run(lambda part, *others: step(Share(*part), *others), part, *arguments)

    def totals(self, values: Sequence[Any]) -> list[np.ndarray]:
        """See `Devices.totals`."""
        given = [tf.convert_to_tensor(value) for value in values]
        return [each.numpy() for each in self._summed(given)] if given else []

    def gathered(self, values: Sequence[Any]) -> list[np.ndarray]:
        """See `Devices.gathered`."""
        arrays = [np.ascontiguousarray(value).reshape(np.shape(value)) for value in values]
        packed = b"".join(array.tobytes() for array in arrays)
        # As whole numbers, which are what collectives take of all that there is.
        packed += bytes(-len(packed) % _NUMBER.itemsize)
        found = self._joined(np.frombuffer(packed, _NUMBER)).numpy()
        rows = found.reshape(self.count, -1).view(np.uint8)
        unpacked, start = [], 0
        for array in arrays:
            part = np.ascontiguousarray(rows[:, start : start + array.nbytes])
            unpacked.append(part.view(array.dtype).reshape(self.count, *array.shape))
            start += array.nbytes
        return unpacked

    def require_same(self, what: str, value: str) -> None:
        """See `Devices.require_same`."""
        digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
        (found,) = self.gathered([digest])
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

    def describe(self, batch_size: int) -> str:
        """See `Devices.describe`."""
        return f"{self.count} workers; {_shared(batch_size, self.count)}"


def _resolver(cluster: Cluster) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Returns what TensorFlow asks who is who."""
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def _of_all(values: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_gather(tf.identity(values), axis=0)
