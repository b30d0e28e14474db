"""The TPU of this machine. Not run on one: see docs/scale.md."""

from __future__ import annotations

import os
import textwrap

import tensorflow as tf

from sft_keras.core.errors import ClusterError
from sft_keras.distributed.compiled import CompiledReplicas

_HERE = "local"  # how TensorFlow calls the TPU of the machine it runs on


def is_tpu_named() -> bool:
    """Whether this machine has a TPU, or TPU_NAME says that there is one."""
    return bool(os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"))


def tpu_devices(batch_size: int) -> CompiledReplicas:
    """Returns the cores of this machine's TPU, ready for use; `batch_size` is that of all of them.

    Raises:
      ClusterError: If there is none, or TensorFlow has been installed without what it needs.
    """
    name = os.environ.get("TPU_NAME", _HERE)
    if name != _HERE:
        raise ClusterError(
            "--strategy=tpu trains on the TPU of the machine that it runs on (a TPU VM). Received: "
            f"TPU_NAME={name!r}, which names another. Run on that machine, with TPU_NAME=local."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(_HERE)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        devices = CompiledReplicas(tf.distribute.TPUStrategy(resolver), batch_size)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ClusterError(
            "--strategy=tpu needs a TPU in this machine and a TensorFlow that is made for it, see "
            f"docs/scale.md. Received: TPU_NAME={os.environ.get('TPU_NAME')!r}, and TensorFlow "
            f"{tf.__version__}, which says: {textwrap.shorten(str(error), 200)} With "
            "--strategy=one it goes without."
        ) from error
    devices.precision = "mixed_bfloat16"  # what TPUs are made for
    return devices
