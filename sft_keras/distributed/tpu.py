"""The cores of this machine's TPU: replicas whose programs XLA compiles for each shape.

Compiling a shape takes longer than many training steps. So all batches are padded to one size with
rows that losses, metrics and statistics ignore, and all cores compute the same number of rows.

This has been compiled for TPUs but not run on one: see docs/scale.md for what was verified.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from typing_extensions import override

from sft_keras.core.errors import ClusterError
from sft_keras.distributed.devices import pad_rows
from sft_keras.distributed.replicas import Replicas, slice_rows

_LOCAL = "local"  # TensorFlow's name for the TPU of the machine that it runs on


class XlaReplicas(Replicas):
    """Devices of this machine that compute the same number of rows of every batch.

    A batch has ceil(batch_size / num_replicas) rows per replica; the last ones may be padding.
    """

    needs_static_shapes = True
    # By default TensorFlow would accept batches of any size and pad them inside the program, where
    # our losses would divide by the padded size.
    _options = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)

    def __init__(self, strategy: tf.distribute.Strategy, batch_size: int) -> None:
        """Wrap a strategy.

        Args:
          strategy: A `tf.distribute.TPUStrategy`, or any strategy of one process.
          batch_size: The global batch size.
        """
        super().__init__(strategy)
        self._rows_per_replica = -(-batch_size // self.num_replicas)

    @override
    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return self._strategy.run(step, args=arguments, options=self._options)

    @override
    def trace(
        self, function: Callable[..., Any], signature: Sequence[Any], jit_compile: bool = False
    ) -> Callable[..., Any]:
        # Without a signature, so that every graph is traced with known shapes. The programs of a
        # TPU are named after the traced function, which must not be a "<lambda>".
        def program(*arguments: Any) -> Any:
            return function(*arguments)

        graph = tf.function(program, autograph=False)
        graph._omit_frequent_tracing_warning = True  # one trace per shape is intended
        return graph

    @override
    def pad_batch(self, batch: Any) -> tuple[Any, int]:
        return pad_rows(batch, self._rows_per_replica * self.num_replicas)

    @override
    def shard(self, batch: Any, rows: tf.Tensor, index: int) -> tuple[Any, tf.Tensor]:
        size = self._rows_per_replica
        return slice_rows(batch, rows, index * size, (index + 1) * size)

    @override
    def map_rows(self, compute: Callable[[Any], Any], inputs: Any) -> Any:
        parts = [self.shard(inputs, tf.constant(0), index)[0] for index in range(self.num_replicas)]
        outputs = self.run(compute, self.distribute(parts))
        return tf.nest.map_structure(
            lambda output: tf.concat(self._strategy.experimental_local_results(output), axis=0),
            outputs,
        )

    @override
    def describe(self, batch_size: int) -> str:
        rows = self._rows_per_replica * self.num_replicas
        padding = f" (padded to {rows}; the {rows - batch_size} padding rows do not count)"
        return (
            f"{self.num_replicas} devices of this machine; of each batch of {batch_size} examples"
            f"{padding if rows > batch_size else ''} each computes {self._rows_per_replica} rows, "
            "so learning rates stay the same"
        )


def is_tpu_configured() -> bool:
    """Return whether this machine has a TPU, or TPU_NAME names one."""
    return bool(os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"))


def tpu_devices(batch_size: int) -> XlaReplicas:
    """Initialize this machine's TPU and return its cores.

    Args:
      batch_size: The global batch size, over all cores.

    Raises:
      ClusterError: If there is no TPU, TPU_NAME names that of another machine, or TensorFlow was
        installed without TPU support.
    """
    name = os.environ.get("TPU_NAME", _LOCAL)
    if name != _LOCAL:
        raise ClusterError(
            "--strategy=tpu trains on the TPU of the machine that it runs on (a TPU VM). Received: "
            f"TPU_NAME={name!r}, which names another. Run on that machine, with TPU_NAME=local."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(_LOCAL)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        devices = XlaReplicas(tf.distribute.TPUStrategy(resolver), batch_size)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ClusterError(
            "--strategy=tpu needs a TPU in this machine and a TensorFlow build with TPU support, "
            f"see docs/scale.md. Received: TPU_NAME={os.environ.get('TPU_NAME')!r}, and TensorFlow "
            f"{tf.__version__} reports: {textwrap.shorten(str(error), 200)} "
            "Use --strategy=one to train without a TPU."
        ) from error
    devices.dtype_policy = "mixed_bfloat16"  # the TPU's native precision
    return devices
