"""The run of a worker that is not the chief.

The chief does what a run in one process does. The other workers train with it, write nothing but a
log, and end with it.
"""

from __future__ import annotations

import os
from pathlib import Path

from sft_keras.core.errors import RunFolderError
from sft_keras.core.reporter import CONSOLE
from sft_keras.data.service.client import explain_service_failure
from sft_keras.distributed.cluster import Cluster
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.distributed.workers import explain_worker_loss
from sft_keras.export.paths import SAVED_MODEL
from sft_keras.pipeline.finish import history_of
from sft_keras.pipeline.open_run import open_run, train_opened
from sft_keras.pipeline.options import RunOptions
from sft_keras.recipe.loader import LoadedRecipe
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.console import relay_warnings
from sft_keras.runs.folder import RunFolder
from sft_keras.runs.interrupt import handle_signals
from sft_keras.runs.result import Result


def run_worker(
    loaded: LoadedRecipe, options: RunOptions, run_dir: str | os.PathLike[str]
) -> Result:
    """Train with the chief and end when it is done.

    Args:
      loaded: The recipe.
      options: How the run was started, with the cluster.
      run_dir: The run folder, which the chief creates. This worker logs to a folder under workers/
        in it.

    Returns:
      The result without metrics and report.

    Raises:
      SFTError: As `finetune`.
    """
    cluster, folder = options.cluster, Path(run_dir).expanduser()
    if cluster is None:
        raise ValueError("A worker needs the cluster that it belongs to.")
    name = cluster.name(cluster.index)
    print(f"{name}: the chief reports progress", flush=True)
    devices = options.create_devices(loaded, CONSOLE)
    run = RunFolder(_log_folder(folder, cluster), is_quiet=True)
    with (
        handle_signals() as stop,
        relay_warnings(run),
        run.explain_errors(stop, folder),
        explain_worker_loss(cluster, folder),
        explain_service_failure(options.service),
        configured_keras(loaded.recipe),
    ):
        checkpoints = Checkpoints(folder, run, reads_only=True)
        resumed = checkpoints.newest() if options.resume else None
        opened = open_run(loaded.recipe, run, devices, options, resumed)
        stages = train_opened(opened, checkpoints, stop)
        devices.barrier()
        model = opened.experiment.staged.model
        return Result({}, history_of(stages), model, {}, folder, folder / SAVED_MODEL)


def _log_folder(run_dir: Path, cluster: Cluster) -> Path:
    folder = run_dir / "workers" / str(cluster.index)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            "Every worker must be able to write its log into the run folder. Received: "
            f"{str(folder)!r}, and the system reports: {error.strerror or error}."
        ) from error
    return folder
