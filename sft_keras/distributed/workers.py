"""Several processes, each with one device (`MultiWorkerMirroredStrategy`)."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import override

from sft_keras.core.errors import ClusterError
from sft_keras.distributed.cluster import Cluster
from sft_keras.distributed.devices import Shard
from sft_keras.distributed.replicas import StrategyDevices, describe_sharding, shard_batch

_BYTES_PER_PACK = 2**25  # gradients are sent in packs of this size
_SEED_OFFSET = 1_000_003  # between the random states of successive workers
_WORD = np.dtype(np.int32)  # collectives move any data bit for bit in this type
_TASK = re.compile(r"/task:(\d+)")


class Workers(StrategyDevices):
    """One device in each of several processes.

    Create it before TensorFlow is used for anything else. The processes are those of `cluster`;
    TF_CONFIG is not read. Each process keeps plain variables, outside any strategy scope; the
    strategy provides only the collectives.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Connect to the other processes.

        Args:
          cluster: The processes and the index of this one.

        Raises:
          ClusterError: If a process has several devices.
        """
        self._cluster = cluster
        self.num_replicas = self.num_workers = len(cluster.addresses)
        self.worker_index = cluster.index
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=_BYTES_PER_PACK)
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
            _cluster_resolver(cluster), communication_options=options
        )
        if self._strategy.num_replicas_in_sync != self.num_replicas:
            raise ClusterError(
                "Each worker must have one device. Received: "
                f"{self._strategy.num_replicas_in_sync} devices in {self.num_replicas} workers. "
                "Start one process per GPU, each with its GPU's number in CUDA_VISIBLE_DEVICES."
            )
        self._reduce = tf.function(
            lambda values: self.run(self.all_reduce, values), autograph=False
        )
        words = tf.TensorSpec([None], tf.int32)
        self._gather = tf.function(
            lambda values: self.run(_all_gather, values), input_signature=[words], autograph=False
        )

    @override
    def run_on_shards(
        self, step: Callable[..., Any], batch: Any, rows: tf.Tensor, *arguments: Any
    ) -> Any:
        shard = shard_batch(batch, rows, self.worker_index, self.num_workers)
        return self.run(lambda shard, *rest: step(Shard(*shard), *rest), shard, *arguments)

    @override
    def sum_over_workers(self, values: Sequence[Any]) -> list[np.ndarray]:
        tensors = [tf.convert_to_tensor(value) for value in values]
        return [total.numpy() for total in self._reduce(tensors)] if tensors else []

    @override
    def all_gather(self, values: Sequence[Any]) -> list[np.ndarray]:
        arrays = [np.ascontiguousarray(value).reshape(np.shape(value)) for value in values]
        packed = b"".join(array.tobytes() for array in arrays)
        # As integers: no collective supports every dtype, and none changes their bits.
        packed += bytes(-len(packed) % _WORD.itemsize)
        gathered = self._gather(np.frombuffer(packed, _WORD)).numpy()
        rows = gathered.reshape(self.num_workers, -1).view(np.uint8)
        unpacked, start = [], 0
        for array in arrays:
            part = np.ascontiguousarray(rows[:, start : start + array.nbytes])
            unpacked.append(part.view(array.dtype).reshape(self.num_workers, *array.shape))
            start += array.nbytes
        return unpacked

    @override
    def require_same(self, what: str, value: str) -> None:
        digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
        (digests,) = self.all_gather([digest])
        differing = [
            worker
            for worker in range(self.num_workers)
            if not np.array_equal(digests[worker], digests[0])
        ]
        if differing:
            raise ClusterError(
                f"All workers must have the same {what}. Received: a different one in "
                f"{', '.join(map(self._cluster.name, differing))} than in the chief. Check that "
                "they use the same data, the same weights file and the same kind of machine."
            )

    @override
    def barrier(self) -> None:
        self.sum_over_workers([np.zeros([], np.int32)])

    @override
    def offset_seeds(self, states: Mapping[str, keras.Variable]) -> None:
        for state in states.values():
            value = state.numpy()
            offset = np.zeros_like(value)
            offset.flat[0] = self.worker_index * _SEED_OFFSET
            state.assign(value + offset)

    @override
    def describe(self, batch_size: int) -> str:
        sharding = describe_sharding(batch_size, self.num_workers)
        return f"{self.num_workers} workers; {sharding}"


@contextlib.contextmanager
def explain_worker_loss(cluster: Cluster | None, run_dir: Path) -> Iterator[None]:
    """Context manager: turn the failure of a collective into an error that names the lost worker.

    Args:
      cluster: The processes that train together; None for a single process, whose errors pass
        through unchanged.
      run_dir: The run folder, for the advice to resume.

    Raises:
      ClusterError: If the block fails because another worker was lost.
    """
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
        tf.errors.FailedPreconditionError,
    ) as error:
        tasks = map(int, _TASK.findall(str(error)))
        others = [] if cluster is None else [task for task in tasks if task != cluster.index]
        if cluster is None or ("ollective" not in str(error) and not others):
            raise
        lost = cluster.name(others[0]) if others else "another worker"
        lines = str(error).splitlines()
        reasons = [line for line in lines if "error" in line and "Graph" not in line]
        raise ClusterError(
            f"{lost[0].upper()}{lost[1:]} was lost, and the others cannot continue without it. "
            "See the end of its log for the reason. Start all workers again, with --resume="
            f"{str(run_dir)!r} to resume from the latest checkpoint. TensorFlow reports: "
            f"{(reasons or lines)[0][:300]}"
        ) from error


def _cluster_resolver(cluster: Cluster) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Return the cluster in the form that TensorFlow reads, in place of TF_CONFIG."""
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def _all_gather(values: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_gather(tf.identity(values), axis=0)
