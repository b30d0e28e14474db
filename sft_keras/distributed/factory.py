"""Create the devices that a run trains on, once all workers are present."""

from __future__ import annotations

import platform

import tensorflow as tf

from sft_keras.core.errors import ClusterError, RecipeError
from sft_keras.core.reporter import Reporter
from sft_keras.core.versions import package_versions
from sft_keras.distributed.cluster import Cluster, Strategy
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.distributed.rendezvous import rendezvous
from sft_keras.distributed.replicas import Replicas, require_example_per_replica
from sft_keras.distributed.tpu import is_tpu_configured, tpu_devices
from sft_keras.distributed.workers import Workers
from sft_keras.recipe.loader import LoadedRecipe, to_plain


def create_devices(
    strategy: Strategy,
    cluster: Cluster | None,
    loaded: LoadedRecipe,
    *,
    virtual_devices: int = 0,
    resume: bool,
    timeout: float,
    reporter: Reporter,
) -> Devices:
    """Create the devices of a run, after a rendezvous with the other workers if there are any.

    Call it before TensorFlow is used for anything else.

    Args:
      strategy: As for `finetune`.
      cluster: The processes that train together; None for a single process.
      loaded: The recipe, which must be the same in all processes.
      virtual_devices: As for `finetune`.
      resume: Whether the run resumes an earlier one, which must be the same in all processes.
      timeout: Seconds to wait for the other workers.
      reporter: Receives log lines.

    Raises:
      ClusterError: If a worker is missing or runs something else, or the devices are missing.
      RecipeError: If the recipe cannot be trained on the requested devices. With "auto", one
        device is used instead, except on a TPU host, whose CPU is too slow to train on.
    """
    if cluster is None:
        devices = local_devices(strategy, virtual_devices, loaded.recipe.data.batch_size)
        try:
            devices.validate(loaded.recipe)
        except RecipeError as error:
            if strategy != "auto" or devices.needs_static_shapes:
                raise
            reporter.line(f"devices  one of {devices.num_replicas}. {error}")
            return ONE_DEVICE
        return devices
    require_example_per_replica(loaded.recipe, len(cluster.addresses), "workers")
    versions = {**package_versions(), "python": platform.python_version()}
    facts = {
        "addresses": list(cluster.addresses),
        "recipe": to_plain(loaded.recipe),
        "versions": versions,
        "resume": resume,
    }
    rendezvous(cluster, facts, timeout=timeout, reporter=reporter)
    return Workers(cluster)


def local_devices(strategy: Strategy, virtual_devices: int, batch_size: int) -> Devices:
    """Return the devices of this machine: one, all GPUs, the TPU's cores, or parts of the CPU.

    Args:
      strategy: As for `finetune`.
      virtual_devices: As for `finetune`.
      batch_size: The global batch size.

    Raises:
      ClusterError: If the requested devices do not exist.
    """
    if strategy == "tpu" or (strategy == "auto" and not virtual_devices and is_tpu_configured()):
        return tpu_devices(batch_size)
    if virtual_devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * virtual_devices
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise ClusterError(
                "The CPU must be split before TensorFlow uses it. Received: virtual_devices="
                f"{virtual_devices} in a process that has used it. Start a new process."
            ) from error
    kind = "CPU" if virtual_devices else "GPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if strategy == "one" or (strategy == "auto" and len(names) < 2):
        return ONE_DEVICE
    if len(names) < 2:
        raise ClusterError(
            "--strategy=mirrored trains on several GPUs of this machine. "
            f"Received: {len(names)} {kind} devices. "
            "Use --strategy=one, or try it on parts of the CPU with --virtual_devices=2."
        )
    # GPUs reduce with NCCL, which CPUs do not support.
    reduction = tf.distribute.ReductionToOneDevice() if virtual_devices else None
    return Replicas(tf.distribute.MirroredStrategy(names, cross_device_ops=reduction))
