"""Join the devices or workers that a run trains on."""

from __future__ import annotations

import platform

import tensorflow as tf

from sft_keras.core.errors import ClusterError, RecipeError
from sft_keras.core.reporter import Reporter
from sft_keras.core.versions import package_versions
from sft_keras.distributed.cluster import Cluster, Strategy
from sft_keras.distributed.device import ONE_DEVICE, Devices
from sft_keras.distributed.rendezvous import meet
from sft_keras.distributed.replicas import Replicas, require_an_example_each
from sft_keras.distributed.tpu import is_tpu_named, tpu_devices
from sft_keras.distributed.workers import Workers
from sft_keras.recipe.loader import LoadedRecipe, to_plain


def join(
    strategy: Strategy,
    cluster: Cluster | None,
    loaded: LoadedRecipe,
    *,
    virtual_devices: int = 0,
    resume: bool,
    timeout: float,
    reporter: Reporter,
) -> Devices:
    """Returns what a run trains on, once all of it is there; before TensorFlow does anything.

    Args:
      strategy: See `finetune`.
      cluster: The processes that train together; None for this one alone.
      loaded: The recipe, which all must run.
      virtual_devices: See `finetune`.
      resume: Whether the run goes on with an earlier one, which all must do.
      timeout: Seconds to wait for the others.
      reporter: Receives log lines.

    Raises:
      ClusterError: If one does not come, or runs something else.
    """
    if cluster is None:
        devices = local_devices(strategy, virtual_devices, loaded.recipe.data.batch_size)
        try:
            devices.require_possible(loaded.recipe)
        except RecipeError as error:
            if strategy != "auto" or devices.compiles_shapes:  # a TPU's host is no place to train
                raise
            reporter.line(f"devices  one of {devices.count}. {error}")
            return ONE_DEVICE
        return devices
    require_an_example_each(loaded.recipe, len(cluster.addresses), "workers")
    versions = {**package_versions(), "python": platform.python_version()}
    about = {
        "addresses": list(cluster.addresses),
        "recipe": to_plain(loaded.recipe),
        "versions": versions,
        "resume": resume,
    }
    meet(cluster, about, timeout=timeout, reporter=reporter)
    return Workers(cluster)


def local_devices(strategy: Strategy, virtual_devices: int, batch_size: int) -> Devices:
    """Returns one device of this machine, or its TPU, or all GPUs, or parts of its CPU.

    Args:
      strategy: See `finetune`.
      virtual_devices: See `finetune`.
      batch_size: Of all devices together.

    Raises:
      ClusterError: If several are asked for, and there are not.
    """
    if strategy == "tpu" or (strategy == "auto" and not virtual_devices and is_tpu_named()):
        return tpu_devices(batch_size)
    if virtual_devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * virtual_devices
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:
            raise ClusterError(
                "The CPU must be split before TensorFlow has used it. Received: virtual_devices="
                f"{virtual_devices} in a process that has. Begin with it in a new one."
            ) from error
    names = [device.name for device in tf.config.list_logical_devices("GPU")]
    if virtual_devices:
        names = [device.name for device in tf.config.list_logical_devices("CPU")]
    if strategy == "one" or (strategy == "auto" and len(names) < 2):
        return ONE_DEVICE
    if len(names) < 2:
        raise ClusterError(
            f"--strategy=mirrored trains on several GPUs of this machine. Received: {len(names)}. "
            "Take --strategy=one, or try it on parts of the CPU with --virtual_devices=2."
        )
    # GPUs talk to each other by NCCL, which CPUs do not have.
    across = tf.distribute.ReductionToOneDevice() if virtual_devices else None
    return Replicas(tf.distribute.MirroredStrategy(names, cross_device_ops=across))
