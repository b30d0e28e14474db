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
from sft_keras.cluster import Cluster
from sft_keras.devices import ONE_DEVICE, Devices, Workers
from sft_keras.environment import keras_for, package_versions
from sft_keras.errors import ClusterError, RecipeError
from sft_keras.keeper import Keeper
from sft_keras.meeting import meet
from sft_keras.opened_run import open_run
from sft_keras.recipe_loader import LoadedRecipe, as_plain
from sft_keras.run_folder import RunFolder
from sft_keras.stop import listening
from sft_keras.training import train_stages

_GONE = re.compile(r"/task:(\d+)")


def join(
    cluster: Cluster | None,
    loaded: LoadedRecipe,
    *,
    resume: bool,
    timeout: float,
    say: Callable[[str], None],
) -> Devices:
    """Waits for all processes of a cluster and connects them; before TensorFlow does anything.

    Args:
      cluster: The processes; None for this one alone.
      loaded: The recipe, which all must run.
      resume: Whether the run goes on with an earlier one, which all must do.
      timeout: Seconds to wait for the others.
      say: Takes a line to show.

    Raises:
      ClusterError: If one does not come, or runs something else.
    """
    if cluster is None:
        return ONE_DEVICE
    size = loaded.recipe.data.batch_size
    if size < len(cluster.addresses):
        raise RecipeError(
            "`data.batch_size` is that of all workers together, and must give each of them an "
            f"example. Received: {size} for {len(cluster.addresses)} workers."
        )
    versions = {**package_versions(), "python": platform.python_version()}
    about = {"recipe": as_plain(loaded.recipe), "versions": versions, "resume": resume}
    meet(cluster, about, timeout=timeout, say=say)
    return Workers(cluster)


def assist(
    loaded: LoadedRecipe,
    cluster: Cluster,
    run_dir: Path,
    *,
    resume: bool,
    allow_changed: Sequence[str],
    timeout: float,
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Does what a worker does that is not the chief: trains with it, and ends when it is done.

    Args:
      loaded: The recipe.
      cluster: The processes.
      run_dir: The run's folder, which the chief makes; in it, under workers/, the log is written.
      resume: Whether the run goes on with an earlier one.
      allow_changed: See `finetune`.
      timeout: Seconds to wait for the others.

    Returns:
      The trained model, and what `train_stages` gave.

    Raises:
      SFTError: As `finetune`.
    """
    print(f"{cluster.name(cluster.index)}: the chief says how it goes", flush=True)
    devices = join(cluster, loaded, resume=resume, timeout=timeout, say=print)
    folder = run_dir / "workers" / str(cluster.index)
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder, is_quiet=True)
    recipe = loaded.recipe
    with (
        listening() as stop,
        run.explaining_errors(stop, run_dir),
        explaining_loss_of(cluster, run_dir),
        keras_for(recipe),
    ):
        checkpoints = Checkpoints(run_dir)
        resumed = checkpoints.newest() if resume else None
        opened = open_run(recipe, run, resumed, devices, allow_changed)
        keeper = Keeper(
            opened.staged,
            checkpoints,
            recipe.checkpoints,
            about={"data": opened.digest},
            stop=stop,
            clock=opened.clock,
            say=run.say,
            resumed=opened.resumed,
            devices=devices,
        )
        stages = train_stages(
            opened.staged,
            recipe,
            opened.prepared,
            opened.info,
            run,
            keeper=keeper,
            devices=devices,
        )
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
        if cluster is None or ("ollective" not in str(error) and "task:" not in str(error)):
            raise
        others = [int(each) for each in _GONE.findall(str(error))]
        others = [each for each in others if each != cluster.index]
        who = cluster.name(others[0]) if others else "another worker"
        told = [line for line in str(error).splitlines() if "error" in line and "Graph" not in line]
        raise ClusterError(
            f"{who[0].upper()}{who[1:]} has gone, and the others cannot go on without it. See what "
            "it said last. Start all of them again, with --resume="
            f"{str(run_dir)!r} to go on from the latest checkpoint. TensorFlow says: "
            f"{(told or str(error).splitlines())[0][:300]}"
        ) from error
