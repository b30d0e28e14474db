"""Several processes that train one model: how they find each other, and what all but one do.

The chief does what a run in one process does. The others train with it, write nothing but a log,
and end with it.
"""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from sft_keras.checkpoints import Checkpoints
from sft_keras.cluster import Cluster, Strategy
from sft_keras.data.service import DataService, explaining_failure_of
from sft_keras.devices import ONE_DEVICE, Devices
from sft_keras.environment import keras_for, package_versions
from sft_keras.errors import ClusterError, RecipeError, RunFolderError
from sft_keras.meeting import meet
from sft_keras.opened_run import open_run, train_opened
from sft_keras.recipe_loader import LoadedRecipe, as_plain
from sft_keras.run_folder import RunFolder
from sft_keras.several_devices import Replicas, Workers, require_an_example_each
from sft_keras.stop import listening
from sft_keras.tpu import is_tpu_named, tpu_devices

_GONE = re.compile(r"/task:(\d+)")


def join(
    strategy: Strategy,
    cluster: Cluster | None,
    loaded: LoadedRecipe,
    *,
    virtual_devices: int = 0,
    resume: bool,
    timeout: float,
    say: Callable[[str], None],
) -> Devices:
    """Returns what a run trains on, once all of it is there; before TensorFlow does anything.

    Args:
      strategy: See `finetune`.
      cluster: The processes that train together; None for this one alone.
      loaded: The recipe, which all must run.
      virtual_devices: See `finetune`.
      resume: Whether the run goes on with an earlier one, which all must do.
      timeout: Seconds to wait for the others.
      say: Takes a line to show.

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
            say(f"devices  one of {devices.count}. {error}")
            return ONE_DEVICE
        return devices
    require_an_example_each(loaded.recipe, len(cluster.addresses), "workers")
    versions = {**package_versions(), "python": platform.python_version()}
    about = {
        "addresses": list(cluster.addresses),
        "recipe": as_plain(loaded.recipe),
        "versions": versions,
        "resume": resume,
    }
    meet(cluster, about, timeout=timeout, say=say)
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


def assist(
    loaded: LoadedRecipe,
    cluster: Cluster,
    run_dir: Path,
    *,
    resume: bool,
    allow_changed: Sequence[str],
    timeout: float,
    service: DataService | None = None,
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Does what a worker does that is not the chief: trains with it, and ends when it is done.

    Args:
      loaded: The recipe.
      cluster: The processes.
      run_dir: The run's folder, which the chief makes; in it, under workers/, the log is written.
      resume: Whether the run goes on with an earlier one.
      allow_changed: See `finetune`.
      timeout: Seconds to wait for the others.
      service: See `open_run`.

    Returns:
      The trained model, and what `train_stages` gave.

    Raises:
      SFTError: As `finetune`.
    """
    print(f"{cluster.name(cluster.index)}: the chief says how it goes", flush=True)
    devices = join("multi_worker", cluster, loaded, resume=resume, timeout=timeout, say=print)
    folder = run_dir / "workers" / str(cluster.index)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            "Every worker must be able to write its log into the run's folder. Received: "
            f"{str(folder)!r}, and the system says: {error.strerror or error}."
        ) from error
    run = RunFolder(folder, is_quiet=True)
    recipe = loaded.recipe
    with (
        listening() as stop,
        run.explaining_errors(stop, run_dir),
        explaining_loss_of(cluster, run_dir),
        explaining_failure_of(service),
        keras_for(recipe),
    ):
        checkpoints = Checkpoints(run_dir, run.say, reads_only=True)
        resumed = checkpoints.newest() if resume else None
        opened = open_run(recipe, run, resumed, devices, allow_changed, service)
        stages = train_opened(opened, recipe, run, checkpoints, stop, devices)
        devices.wait()
        return opened.staged.model, stages


@contextlib.contextmanager
def explaining_loss_of(cluster: Cluster | None, run_dir: Path) -> Iterator[None]:
    """Says which worker has gone, where the block fails for want of it.

    Raises:
      ClusterError: If one has.
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
        named = map(int, _GONE.findall(str(error)))
        others = [] if cluster is None else [each for each in named if each != cluster.index]
        if cluster is None or ("ollective" not in str(error) and not others):
            raise
        who = cluster.name(others[0]) if others else "another worker"
        told = [line for line in str(error).splitlines() if "error" in line and "Graph" not in line]
        raise ClusterError(
            f"{who[0].upper()}{who[1:]} has gone, and the others cannot go on without it. See what "
            "it said last. Start all of them again, with --resume="
            f"{str(run_dir)!r} to go on from the latest checkpoint. TensorFlow says: "
            f"{(told or str(error).splitlines())[0][:300]}"
        ) from error
