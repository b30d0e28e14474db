"""The main path: a recipe in; a fine-tuned model, its report and its SavedModel out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from sft_keras.check.inspect import quick_check
from sft_keras.core.snapshot import Snapshot
from sft_keras.data.service.client import DataService, explain_service_failure
from sft_keras.data.service.dispatcher import require_data_service
from sft_keras.distributed.cluster import WORKER_TIMEOUT, Strategy, resolve_cluster
from sft_keras.distributed.devices import Devices
from sft_keras.distributed.factory import create_devices
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.distributed.workers import explain_worker_loss
from sft_keras.export.paths import SAVED_MODEL
from sft_keras.pipeline import finish
from sft_keras.pipeline.finish import about_run, about_start
from sft_keras.pipeline.open_run import OpenedRun, in_this_process, open_run, train_opened
from sft_keras.pipeline.worker import run_worker
from sft_keras.recipe.loader import load_recipe, to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.report import write_report
from sft_keras.runs.console import Log
from sft_keras.runs.folder import RECIPE, RunFolder
from sft_keras.runs.interrupt import StopRequest, handle_signals
from sft_keras.runs.lock import lock_run
from sft_keras.runs.result import Result
from sft_keras.runs.resume import require_same_recipe
from sft_keras.runs.trackers import Trackers, open_trackers, require_trackers


def finetune(
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
    """Runs a recipe from the data to the checked SavedModel.

    A run that was stopped, or whose process died, is gone on with by `resume`: from its latest
    checkpoint, to the same weights bit for bit where `Recipe.deterministic` is on.

    Args:
      recipe: The name of a recipe that comes along, a recipe file's path, or a Recipe.
      overrides: "PATH=VALUE" each, as `--set` takes them.
      run_dir: Where to write; None for a new folder under runs/.
      overwrite: Whether an earlier run in `run_dir` may be deleted.
      resume: Whether to go on with the run in `run_dir`, which must have been begun.
      allow_changed: Paths of fields in which the recipe may differ from the one that a resumed run
        began with; "data" for other examples.
      smoke: Whether to run on synthetic data and random weights, to try the path in seconds.
      command: What to repeat the run with, for the report.
      strategy: "one" device; "mirrored", all GPUs of this machine; "tpu", all cores of its TPU; or
        "multi_worker", one device in each of the processes that TF_CONFIG names, each of which must
        run this with the same `run_dir`. "auto" is the last where there is a TF_CONFIG, else "tpu"
        where there is one or TPU_NAME is set, else "mirrored" where there are several GPUs, else
        "one". `Data.batch_size` is that of all of them together.
      worker_timeout: Seconds to wait for the other workers.
      virtual_devices: Into how many devices to split the CPU, to try "mirrored" on it; 0 for none.
      data_service: grpc://HOST:PORT of the dispatcher of a tf.data service, whose workers read and
        decode image files: the batches are those of a run without it. None to read them here.
      log: What is printed: "plain" lines; "quiet", only warnings and what came out; or "json", an
        object a line with "time" and "said", or "stage", "step" and the figures of an epoch.

    Returns:
      What the run leaves behind; of a worker that is not the chief without metrics and report.

    Raises:
      SFTError: One of `sft_keras.core.errors`, with the reason in its message; a `StoppedError`
        after Ctrl-C or SIGTERM.
    """
    loaded = load_recipe(recipe, overrides)
    if smoke:
        loaded = dataclasses.replace(loaded, recipe=loaded.recipe.task.smoke_recipe(loaded.recipe))
    loaded.recipe.data.require_path()
    require_trackers(loaded.recipe)
    cluster = resolve_cluster(strategy, run_dir)
    service = None
    if data_service is not None:
        require_data_service(data_service, loaded.recipe)
        service = DataService(data_service)
    joining = {"resume": resume, "timeout": worker_timeout}
    if cluster is not None and not cluster.is_chief:
        folder = Path(run_dir).expanduser()
        model, stages = run_worker(
            loaded, cluster, folder, allow_changed=allow_changed, service=service, **joining
        )
        return Result({}, _history(stages), model, {}, folder, folder / SAVED_MODEL)
    reopened = RunFolder.reopen(run_dir, log) if resume else None
    run = reopened or RunFolder.create(loaded.name, run_dir, overwrite, log=log)
    with (
        handle_signals() as stop,
        lock_run(run.path),
        run.explain_errors(stop),
        explain_worker_loss(cluster, run.path),
        explain_service_failure(service),
        contextlib.ExitStack() as opening,
    ):
        if not resume:
            opening.enter_context(run.discarded_on_error())
        if resume and require_same_recipe(run.path, loaded.recipe, allow_changed):
            run.checkpoints.forget(*finish.PARTS)
        devices = create_devices(
            strategy, cluster, loaded, virtual_devices=virtual_devices, reporter=run, **joining
        )
        with configured_keras(loaded.recipe, devices):
            run.write_json(RECIPE, to_plain(loaded.recipe))
            run.checkpoints.sweep()
            start = about_start(loaded, smoke, command)
            began = run.checkpoints.run_once("begun", lambda: Snapshot(start))
            resumed = run.checkpoints.newest()
            if resumed is not None:
                run.line(f"resume  going on with {run.path}")
            opened = open_run(loaded.recipe, run, resumed, devices, allow_changed, service)
            opening.close()
            with open_trackers(loaded.recipe, run) as trackers:
                return _run(loaded.recipe, run, stop, began.facts, opened, devices, trackers)


def _run(
    recipe: Recipe,
    run: RunFolder,
    stop: StopRequest,
    began: Mapping[str, Any],
    opened: OpenedRun,
    devices: Devices,
    trackers: Trackers,
) -> Result:
    """Does what is left of a run."""
    task, progress, timer = recipe.task, run.checkpoints, opened.timer
    prepared, info = opened.prepared, opened.info
    found = quick_check(prepared, info)
    for finding in found:
        if finding.spoils:
            run.line(f"warning  {finding.describe()} See python -m sft_keras.check.")
    with timer("stages"):
        stages = train_opened(opened, recipe, run, progress, stop, devices)
        staged = in_this_process(opened, recipe, devices)
    temperature = stages[-1]["temperature"]
    parts = finish.RunFinisher(staged, recipe, prepared["test"], info, run, temperature)
    saved = progress.run_once("saved", parts.save)
    with timer("evaluation"):
        evaluated = progress.run_once("evaluated", parts.evaluate)
    with timer("export"):
        exported = progress.run_once("exported", lambda: parts.export(evaluated))
    metrics = evaluated.facts["metrics"]
    warnings = [each for stage in stages for each in stage["warnings"]]
    report = {
        **about_run(recipe, began, timer, info, staged),
        "inputs": {name: dict(split.facts) for name, split in prepared.items()},
        "checked": [{"what": each.describe(), "spoils": each.spoils} for each in found],
        "stages": stages,
        "score": task.score(metrics)[0],
        "test": metrics,
        "mistakes": evaluated.facts["mistakes"],
        "uncertain": evaluated.facts["uncertain"],
        "export": exported.facts,
        "notes": [*saved.facts["notes"], *warnings],
    }
    pictures = finish.pictures_of(evaluated)
    write_report(report, pictures, run.path, task.pipeline_tag)
    progress.clear()
    trackers.finish(metrics, run.file("report.html"))
    for note in saved.facts["notes"]:
        run.line(f"note  {note}")
    run.line(f"test  {task.summary(metrics)}")
    run.line(f"report  {run.file('report.html')}")
    run.line(f"predict  python -m sft_keras.predict --run={run.path} {task.predict_argument}...")
    with contextlib.suppress(tf.errors.OpError):  # one has gone, and is not needed any more
        devices.barrier()  # for the others, which would take an end before for a failure
    return Result(
        metrics=metrics,
        history=_history(stages),
        model=parts.model,
        report=report,
        run_dir=run.path,
        export_dir=run.file(SAVED_MODEL),
        pictures=tuple(pictures),
    )


def _history(stages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    return {stage["name"]: stage["history"] for stage in stages}
