"""One job of a tf.data service, whose elements arrive in the order in which they are finished."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_MILLISECONDS = 1000


class Job:
    """The elements of a dataset, computed by the workers of a service.

    The job runs in a session of its own because only a session's call can time out: when a worker
    has died, a dataset's iterator blocks for an hour.
    """

    def __init__(
        self, address: str, dataset: tf.data.Dataset, *, every_worker: bool = False
    ) -> None:
        """Start the job.

        Args:
          address: The address of a dispatcher that responds; TensorFlow blocks on others.
          dataset: The dataset that the workers run.
          every_worker: Whether each worker computes all elements; otherwise they share them.
        """
        service = tf.data.experimental.service
        policy = service.ShardingPolicy.OFF if every_worker else service.ShardingPolicy.DYNAMIC
        self._spec = dataset.element_spec
        dataset_id = service.register_dataset(address, dataset).numpy()
        with tf.Graph().as_default() as graph, tf.device("CPU"):
            elements = service.from_dataset_id(policy, address, dataset_id, self._spec)
            specs = tf.nest.flatten(self._spec)
            signature = {
                "output_types": [spec.dtype for spec in specs],
                "output_shapes": [spec.shape for spec in specs],
            }
            iterator = tf.raw_ops.IteratorV2(shared_name="", container="", **signature)
            variant = tf.data.experimental.to_variant(elements)
            start = tf.raw_ops.MakeIterator(dataset=variant, iterator=iterator)
            self._next = tf.raw_ops.IteratorGetNext(iterator=iterator, **signature)
        # The session must not claim the GPUs.
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._session.run(start)

    def next(self, timeout: float) -> Any:
        """Return the next element, as NumPy arrays.

        Args:
          timeout: Seconds to wait for it.

        Raises:
          OutOfRangeError: If there are no more elements.
          OpError: If none arrived in time, which ends the job, or if the service failed.
        """
        options = tf.compat.v1.RunOptions(timeout_in_ms=round(timeout * _MILLISECONDS))
        tensors = self._session.run(self._next, options=options)
        return tf.nest.pack_sequence_as(self._spec, tensors)

    def close(self) -> None:
        """End the job."""
        self._session.close()
