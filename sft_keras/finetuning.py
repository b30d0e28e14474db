"""The main path: a recipe in; a fine-tuned model, its report and its SavedModel out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from sft_keras import run_parts
from sft_keras.check.checking import short_check
from sft_keras.clock import Clock
from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.environment import keras_for
from sft_keras.keeper import Keeper
from sft_keras.opening import digest_of_splits, open_backbone_and_data
from sft_keras.recipe import Recipe
from sft_keras.recipe_loader import as_plain, load_recipe
from sft_keras.report import write_report
from sft_keras.resuming import require_same_data, require_same_recipe
from sft_keras.run_facts import about_run, about_start
from sft_keras.run_folder import RECIPE, RunFolder
from sft_keras.run_lock import held
from sft_keras.snapshot import Snapshot
from sft_keras.staged_model import StagedModel
from sft_keras.stages import count_parameters
from sft_keras.stop import Stop, listening
from sft_keras.training import build_staged, train_stages


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves behind.

    Attributes:
      metrics: The figures of the test split, as in the report.
      history: {stage name: {figure: value an epoch}}.
      model: The trained model: images float32 [batch, height, width, 3] in 0..255 to
        probabilities [batch, num_classes].
      report: All that report.json holds.
      run_dir: The run folder.
      export_dir: The SavedModel in it.
    """

    metrics: dict[str, Any]
    history: dict[str, dict[str, list[float]]]
    model: keras.Model = dataclasses.field(repr=False)
    report: dict[str, Any] = dataclasses.field(repr=False)
    run_dir: Path
    export_dir: Path


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

    Raises:
      SFTError: One of `sft_keras.errors`, with the whole story in its message; a `StoppedError`
        after Ctrl-C or SIGTERM.
    """
    loaded = load_recipe(recipe, overrides)
    if smoke:
        loaded = dataclasses.replace(loaded, recipe=loaded.recipe.task.for_smoke(loaded.recipe))
    loaded.recipe.data.require_path()
    reopened = RunFolder.reopen(run_dir) if resume else None
    run = reopened or RunFolder.create(loaded.name, run_dir, overwrite)
    with (
        listening() as stop,
        held(run.path),
        run.explaining_errors(stop),
        keras_for(loaded.recipe),
    ):
        with contextlib.nullcontext() if resume else run.discarded_on_error():
            if resume and require_same_recipe(run.path, loaded.recipe, allow_changed):
                run.checkpoints.forget(*run_parts.PARTS)
            run.write_json(RECIPE, as_plain(loaded.recipe))
            start = about_start(loaded, smoke, command)
            opened = _opened(loaded.recipe, run, start, allow_changed)
        return _run(loaded.recipe, run, stop, opened)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A run that is ready to train.

    Attributes:
      began: How it was begun, see `about_start`; of a resumed run in its first process.
      resumed: The checkpoint to go on from; None for none.
      staged: The model, as it is at the start of any run of the recipe.
      prepared: The splits.
      info: Facts about them.
      digest: Of all examples.
      clock: How long it took so far.
    """

    began: Mapping[str, Any]
    resumed: Snapshot | None
    staged: StagedModel
    prepared: Mapping[str, Prepared]
    info: DataInfo
    digest: str
    clock: Clock


def _opened(
    recipe: Recipe, run: RunFolder, start: Mapping[str, Any], allow_changed: Sequence[str]
) -> _Opened:
    """Opens the backbone and the data, and finds the checkpoint."""
    progress, clock = run.checkpoints, Clock()
    progress.sweep()
    began = progress.done("begun", lambda: Snapshot(start))
    resumed = progress.newest()
    if resumed is not None:
        clock.go_on(resumed.facts["seconds"])
        run.say(f"resume  going on with {run.path}")
    with clock("data"):
        backbone, splits = open_backbone_and_data(recipe)
        prepared = recipe.task.prepare(splits, recipe, _progress(run, "reading"))
        digest = digest_of_splits(prepared)
        if resumed is not None:
            require_same_data(run.path, resumed.facts["data"], digest, allow_changed)
        run.write_json("splits.json", splits.as_json())
        staged = build_staged(recipe, backbone, splits.info)
    _say_what_is_trained(run, recipe, staged, splits.info)
    return _Opened(began.facts, resumed, staged, prepared, splits.info, digest, clock)


def _run(recipe: Recipe, run: RunFolder, stop: Stop, opened: _Opened) -> Result:
    """Does what is left of a run."""
    task, progress, clock = recipe.task, run.checkpoints, opened.clock
    staged, prepared, info = opened.staged, opened.prepared, opened.info
    warnings = short_check(prepared, info)
    for warning in warnings:
        run.say(f"warning  {warning} See python -m sft_keras.check.")
    keeper = Keeper(
        staged,
        progress,
        recipe.checkpoints,
        about={"data": opened.digest},
        stop=stop,
        clock=clock,
        say=run.say,
        resumed=opened.resumed,
    )
    with clock("stages"):
        stages = train_stages(staged, recipe, prepared, info, run, keeper=keeper)
    parts = run_parts.RunParts(staged, recipe, prepared["test"], info, run)
    saved = progress.done("saved", parts.save)
    with clock("evaluation"):
        evaluated = progress.done("evaluated", parts.evaluate)
    with clock("export"):
        exported = progress.done("exported", lambda: parts.export(evaluated))
    metrics = evaluated.facts["metrics"]
    warnings += [each for stage in stages for each in stage["warnings"]]
    notes = [*saved.facts["notes"], *warnings]
    report = {
        **about_run(recipe, opened.began, clock, info, staged),
        "inputs": {name: dict(split.facts) for name, split in prepared.items()},
        "stages": stages,
        "score": task.score(metrics)[0],
        "test": metrics,
        "mistakes": evaluated.facts["mistakes"],
        "export": exported.facts,
        "notes": notes,
    }
    pictures = run_parts.pictures_of(evaluated)
    write_report(report, {"mistakes": pictures} if pictures else {}, run.path)
    progress.clear()
    for note in saved.facts["notes"]:
        run.say(f"note  {note}")
    run.say(f"test  {task.summary(metrics)}")
    run.say(f"report  {run.file('report.html')}")
    run.say(f"predict  python -m sft_keras.predict --run={run.path} {task.asked_about}...")
    return Result(
        metrics=metrics,
        history={stage["name"]: stage["history"] for stage in stages},
        model=staged.model,
        report=report,
        run_dir=run.path,
        export_dir=run.file("export"),
    )


def _progress(run: RunFolder, what: str) -> Any:
    return lambda done, total: run.tick(f"{what} {done}/{total}")


def _say_what_is_trained(
    run: RunFolder, recipe: Recipe, staged: StagedModel, info: DataInfo
) -> None:
    run.say(f"data  {info.summary()}")
    run.say(
        f"model  {recipe.backbone.preset} ({recipe.backbone.weights or 'random weights'}): "
        f"{count_parameters(staged.model.weights):,} parameters, "
        f"{len(staged.backbone.blocks)} blocks"
    )
