"""One job of a tf.data service, whose elements come in the order in which they are done."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_MILLISECONDS = 1000


class Job:
    """Elements of a dataset, made by the workers of a service.

    In a session of its own, since only that can be left when nothing comes: where a worker has
    died, a dataset's iterator waits for an hour.
    """

    def __init__(self, address: str, dataset: tf.data.Dataset, *, by_all: bool = False) -> None:
        """Begins at once.

        Args:
          address: Of a dispatcher that answers; TensorFlow waits for one that does not.
          dataset: What the workers run.
          by_all: Whether each worker makes all elements; else they share them out.
        """
        service = tf.data.experimental.service
        policy = service.ShardingPolicy.OFF if by_all else service.ShardingPolicy.DYNAMIC
        self._spec = dataset.element_spec
        name = service.register_dataset(address, dataset).numpy()
        with tf.Graph().as_default() as graph, tf.device("CPU"):
            coming = service.from_dataset_id(policy, address, name, self._spec)
            flat = tf.nest.flatten(self._spec)
            kinds = {
                "output_types": [each.dtype for each in flat],
                "output_shapes": [each.shape for each in flat],
            }
            iterator = tf.raw_ops.IteratorV2(shared_name="", container="", **kinds)
            variant = tf.data.experimental.to_variant(coming)
            start = tf.raw_ops.MakeIterator(dataset=variant, iterator=iterator)
            self._next = tf.raw_ops.IteratorGetNext(iterator=iterator, **kinds)
        # The GPUs are not for this.
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._session.run(start)

    def next(self, timeout: float) -> Any:
        """Returns the next element, as NumPy arrays.

        Args:
          timeout: Seconds to wait for it.

        Raises:
          OutOfRangeError: If there is none.
          OpError: If none came in that time, which ends the job, or the service has failed.
        """
        options = tf.compat.v1.RunOptions(timeout_in_ms=round(timeout * _MILLISECONDS))
        found = self._session.run(self._next, options=options)
        return tf.nest.pack_sequence_as(self._spec, found)

    def close(self) -> None:
        """Ends the job."""
        self._session.close()
