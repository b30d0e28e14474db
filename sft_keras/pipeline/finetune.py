"""The main path: from a recipe to a fine-tuned model, its report and its SavedModel."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sft_keras.check.findings import Finding
from sft_keras.check.inspect import quick_check
from sft_keras.core.errors import RunFolderError
from sft_keras.core.snapshot import Snapshot
from sft_keras.data.service.client import DataService, explain_service_failure
from sft_keras.data.service.dispatcher import require_data_service
from sft_keras.distributed.cluster import WORKER_TIMEOUT, Strategy, resolve_cluster
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.distributed.workers import explain_worker_loss
from sft_keras.pipeline import finish
from sft_keras.pipeline.finish import RunFinisher, about_start
from sft_keras.pipeline.open_run import open_run, train_opened, with_local_model
from sft_keras.pipeline.options import RunOptions
from sft_keras.pipeline.worker import run_worker
from sft_keras.recipe.loader import LoadedRecipe, load_recipe, to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.console import Log, relay_warnings
from sft_keras.runs.folder import RECIPE, RunFolder
from sft_keras.runs.interrupt import handle_signals
from sft_keras.runs.lock import lock_run
from sft_keras.runs.result import Result
from sft_keras.runs.resume import require_same_recipe
from sft_keras.runs.trackers import open_trackers, require_trackers
from sft_keras.training.experiment import Experiment


# The public options of a run: keyword-only, each with a default and a line of explanation.
def finetune(  # noqa: PLR0913
    recipe: str | os.PathLike[str] | Recipe,
    *,
    overrides: Sequence[str] = (),
    run_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    allow_changed: Sequence[str] = (),
    smoke: bool = False,
    command: str = "sft_keras.finetune(...)",
    strategy: Strategy = "auto",
    worker_timeout: float = WORKER_TIMEOUT,
    virtual_devices: int = 0,
    data_service: str | None = None,
    log: Log = "plain",
) -> Result:
    """Fine-tune a pretrained model by a recipe, evaluate it and export it as a SavedModel.

    A run that was stopped, or whose process died, continues with `resume` from its latest
    checkpoint, and reaches the same weights bit for bit if `Recipe.deterministic` is set.

    Args:
      recipe: The name of a built-in recipe, the path of a recipe file, or a `Recipe`.
      overrides: "PATH=VALUE" strings, as `--set` takes them.
      run_dir: The run folder; None for a new folder under runs/.
      overwrite: Whether an earlier run in `run_dir` may be deleted.
      resume: Whether to resume the run in `run_dir`.
      allow_changed: Paths of fields in which the recipe may differ from that of the run to resume;
        "data" for other examples.
      smoke: Whether to run on synthetic data and random weights, to try all steps in seconds.
      command: The command that repeats the run, for the report.
      strategy: "one" device; "mirrored", all GPUs of this machine; "tpu", all cores of its TPU; or
        "multi_worker", one device in each of the processes in TF_CONFIG, each of which must call
        this with the same `run_dir`. "auto" is "multi_worker" if TF_CONFIG is set, else "tpu" if
        there is one or TPU_NAME is set, else "mirrored" if there are several GPUs, else "one".
        `Data.batch_size` is that of all devices together.
      worker_timeout: Seconds to wait for the other workers.
      virtual_devices: Number of devices to split the CPU into, to try "mirrored" on it; 0 for none.
      data_service: grpc://HOST:PORT of the dispatcher of a tf.data service whose workers read and
        decode image files. Batches are the same as without it. None to read them here.
      log: What to print: "plain" lines; "quiet", only warnings and results; or "json", one object
        per line with "time" and either "said" or the "stage", "step" and metrics of an epoch.

    Returns:
      The result of the run. For a worker that is not the chief, it has no metrics and no report.

    Raises:
      SFTError: One of `sft_keras.core.errors`, with the reason in its message; a `StoppedError`
        after Ctrl-C or SIGTERM.

    Example:
      >>> import sft_keras
      >>> result = sft_keras.finetune("quickstart")  # doctest: +SKIP
      >>> result.metrics["accuracy"]["value"], result.run_dir  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, overrides)
    if smoke:
        loaded = dataclasses.replace(loaded, recipe=loaded.recipe.task.smoke_recipe(loaded.recipe))
    loaded.recipe.data.require_path()
    require_trackers(loaded.recipe)
    options = RunOptions(
        strategy=strategy,
        cluster=resolve_cluster(strategy, run_dir),
        resume=resume,
        allow_changed=allow_changed,
        worker_timeout=worker_timeout,
        virtual_devices=virtual_devices,
        service=None if data_service is None else _open_service(data_service, loaded.recipe),
    )
    if options.cluster is not None and not options.cluster.is_chief:
        return run_worker(loaded, options, _required(run_dir))
    reopened = RunFolder.reopen(_required(run_dir), log) if resume else None
    run = reopened or RunFolder.create(loaded.name, run_dir, overwrite, log=log)
    return _run(loaded, options, run, about_start(loaded, smoke, command))


def _required(run_dir: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    if run_dir is None:
        raise RunFolderError(
            "`run_dir` must name the run folder to resume or to share with other workers. "
            "Received: None."
        )
    return run_dir


def _open_service(address: str, recipe: Recipe) -> DataService:
    require_data_service(address, recipe)
    return DataService(address)


def _run(
    loaded: LoadedRecipe, options: RunOptions, run: RunFolder, start: Mapping[str, Any]
) -> Result:
    """Open the run, train its stages and finish it, or resume where it stopped.

    Args:
      loaded: The recipe.
      options: How the run was started.
      run: The run folder.
      start: Facts about a new run; a resumed run keeps those of its first process.
    """
    recipe, checkpoints = loaded.recipe, run.checkpoints
    with (
        handle_signals() as stop,
        lock_run(run.path),
        relay_warnings(run),
        run.explain_errors(stop),
        explain_worker_loss(options.cluster, run.path),
        explain_service_failure(options.service),
        contextlib.ExitStack() as opening,
    ):
        if not options.resume:
            opening.enter_context(run.discarded_on_error())
        elif require_same_recipe(run.path, recipe, options.allow_changed):
            checkpoints.forget(*finish.PARTS)
        devices = options.create_devices(loaded, run)
        with configured_keras(recipe, devices):
            run.write_json(RECIPE, to_plain(recipe))
            checkpoints.sweep()
            began = checkpoints.run_once("begun", lambda: Snapshot(start))
            resumed = checkpoints.newest()
            if resumed is not None:
                run.line(f"resume  resuming {run.path}")
            opened = open_run(recipe, run, devices, options, resumed)
            opening.close()
            with open_trackers(recipe, run) as trackers:
                findings = _warn_of_findings(opened.experiment)
                with opened.timer("stages"):
                    stages = train_opened(opened, checkpoints, stop)
                    trained = with_local_model(opened.experiment)
                finisher = RunFinisher(trained, stages[-1]["temperature"])
                return finisher.finish(stages, findings, began.facts, opened.timer, trackers)


def _warn_of_findings(experiment: Experiment) -> list[Finding]:
    """Run the checks of the data that cost nothing, and log what they find."""
    findings = quick_check(experiment.prepared, experiment.info)
    for finding in findings:
        severity = "warning" if finding.spoils else "note"
        experiment.run.line(f"{severity}  {finding.describe()} See python -m sft_keras.check.")
    return findings
