"""Several processes that train one model: how they find each other, and what all but one do.

The chief does what a run in one process does. The others train with it, write nothing but a log,
and end with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from sft_keras.core.errors import RunFolderError
from sft_keras.core.reporter import CONSOLE
from sft_keras.data.service.client import DataService, explain_service_failure
from sft_keras.distributed.cluster import Cluster
from sft_keras.distributed.factory import create_devices
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.distributed.workers import explain_worker_loss
from sft_keras.pipeline.open_run import open_run, train_opened
from sft_keras.recipe.loader import LoadedRecipe
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.folder import RunFolder
from sft_keras.runs.interrupt import handle_signals


def run_worker(
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
    devices = create_devices(
        "multi_worker", cluster, loaded, resume=resume, timeout=timeout, reporter=CONSOLE
    )
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
        handle_signals() as stop,
        run.explain_errors(stop, run_dir),
        explain_worker_loss(cluster, run_dir),
        explain_service_failure(service),
        configured_keras(recipe),
    ):
        checkpoints = Checkpoints(run_dir, run, reads_only=True)
        resumed = checkpoints.newest() if resume else None
        opened = open_run(recipe, run, resumed, devices, allow_changed, service)
        stages = train_opened(opened, recipe, run, checkpoints, stop, devices)
        devices.barrier()
        return opened.staged.model, stages
