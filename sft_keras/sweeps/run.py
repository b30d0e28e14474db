"""Runs the trials of a plan on shared data, backbones and frozen-block outputs, and compares them.

A trial trains all stages of its recipe and is scored on validation; nothing is exported. Where the
trials only repeat one recipe, so that nothing is chosen by them, they are scored on test too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from sft_keras.backbones.layers import count_parameters
from sft_keras.core.errors import RecipeError, SFTError
from sft_keras.core.timer import Timer
from sft_keras.data.examples import DataInfo
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.lora import layers_to_adapt
from sft_keras.recipe.loader import LoadedRecipe, to_plain
from sft_keras.recipe.recipe import Recipe
from sft_keras.report.sweep_page import write_sweep_page
from sft_keras.runs.console import Log
from sft_keras.runs.environment import environment
from sft_keras.runs.folder import TRIALS, RunFolder
from sft_keras.sweeps.plan import Point, TrialPlan, one_run
from sft_keras.sweeps.shared import TrialData, Workbench
from sft_keras.training.setup import build_staged
from sft_keras.training.trainer import train_stages


def run_trials(
    loaded: LoadedRecipe,
    plan: TrialPlan,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    smoke: bool = False,
    command: str = "sft_keras.sweeps.run.run_trials(...)",
    log: Log = "plain",
) -> dict[str, Any]:
    """Runs a plan and leaves a folder with trials.json, report.html and a folder for each trial.

    What is done so far is in trials.json after each trial, and on the page too if the rest is
    stopped.

    Args:
      loaded: The recipe that is varied.
      plan: From `plan_trials`.
      run_dir: Where to write; None for a new folder under runs/.
      overwrite: Whether an earlier run in `run_dir` may be deleted.
      smoke: Whether the recipe was made for `--smoke`, for the report.
      command: What to repeat it with, for the report.
      log: See `finetune`.

    Returns:
      What trials.json holds; "points" are in the order of the plan.

    Raises:
      SFTError: If the data of the first point cannot be read or does not fit the recipe, which
        leaves nothing behind; or if no trial came to an end. Whatever else goes wrong with one
        trial, such as a backbone that cannot be had or a loss that is no longer finite, ends that
        trial alone.
    """
    loaded.recipe.data.require_path()
    run = RunFolder.create(f"{loaded.name}-{plan.kind}", run_dir, overwrite, log=log)
    run.write_json("recipe.json", to_plain(loaded.recipe))
    timer = Timer()
    bench = Workbench(lambda done, total: run.progress(f"reading {done}/{total}"))
    with run.discarded_on_error():
        info = _open_data(plan, bench)
    run.line(f"data  {info.summary()}")
    report: dict[str, Any] = {}
    try:
        with _no_word_on_retracing():
            for points in _growing(plan, bench, run):
                report = _report(loaded, plan, points, info, timer, command, smoke)
                run.write_json(TRIALS, report)
    finally:
        if report:
            write_sweep_page(report, run.path)
    _say_best(run, plan, report)
    run.line(f"report  {run.file('report.html')}")
    return report


def _open_data(plan: TrialPlan, bench: Workbench) -> DataInfo:
    """Reads the data of the first point, and checks the others against it; returns its facts."""
    first = plan.points[0].recipe
    info = next(bench.data(first, first.seed, plan.folds)).info
    for point in plan.points:
        if point.recipe.data.source == first.data.source:
            point.recipe.task.check_against_data(point.recipe, info)
    return info


def _growing(plan: TrialPlan, bench: Workbench, run: RunFolder) -> Iterator[list[dict[str, Any]]]:
    """Runs the trials; yields the rows of the comparison, as far as they are known, after each."""
    points: list[dict[str, Any]] = []
    for index, point in enumerate(plan.points):
        results: list[dict[str, Any]] = []
        for result in _results(point, plan, bench, run, index * plan.repeats + 1):
            results.append(result)
            number = index * plan.repeats + len(results)
            run.line(f"trial {number}/{plan.trials}  {_told(point, plan, result)}")
            yield [*points, _row(point, results)]
        points.append(_row(point, results))


def _results(
    point: Point, plan: TrialPlan, bench: Workbench, run: RunFolder, number: int
) -> Iterator[dict[str, Any]]:
    """Runs the trials of a point, numbered from `number` on, and yields what became of each."""
    try:
        trials = _trials_of(point, plan, bench)
    except SFTError as error:
        failure = {"name": "data", "folder": None, "failure": str(error), "seconds": 0.0}
        yield from [failure] * plan.repeats
        return
    for own, trial in enumerate(trials, number):
        yield _run_one(trial, bench, run, f"trials/{own:03d}", plan.kind == "repeats")


@dataclasses.dataclass(frozen=True)
class _Trial:
    name: str
    recipe: Recipe
    data: TrialData


def _trials_of(point: Point, plan: TrialPlan, bench: Workbench) -> list[_Trial]:
    """Returns the trials of a point: one for each fold or seed."""
    recipe = point.recipe
    # The splits are the point's own, whatever seed a trial of it trains with.
    parts = list(bench.data(recipe, recipe.seed, plan.folds))
    if plan.folds:
        return [_Trial(f"fold {number}", recipe, data) for number, data in enumerate(parts, 1)]
    seeds = [recipe.seed + seed - plan.seeds[0] for seed in plan.seeds]
    return [
        _Trial(f"seed {seed}", dataclasses.replace(recipe, seed=seed), parts[0]) for seed in seeds
    ]


def _run_one(
    trial: _Trial, bench: Workbench, run: RunFolder, name: str, scores_test: bool
) -> dict[str, Any]:
    """Runs a trial in the folder `name`; returns its scores, or why there are none."""
    recipe, info = trial.recipe, trial.data.info
    folder = RunFolder(run.file(name), is_quiet=True)
    folder.path.mkdir(parents=True)
    folder.write_json("recipe.json", to_plain(recipe))
    began = time.perf_counter()
    facts = {"name": trial.name, "folder": name, "failure": None, "seconds": 0.0}
    try:
        with configured_keras(recipe):
            recipe.task.check_against_data(recipe, info)
            backbone = bench.backbone(recipe)
            for stage in recipe.stages:
                backbone.split(stage.unfreeze)
                layers_to_adapt(backbone, stage)
            staged = build_staged(recipe, backbone, info)
            stages = train_stages(
                staged,
                recipe,
                trial.data.prepared,
                info,
                folder,
                memory=bench.memory,
                scores_test=scores_test,
            )
    except SFTError as error:
        facts["failure"] = str(error)
    except tf.errors.ResourceExhaustedError as error:
        facts["failure"] = f"There was not enough memory. TensorFlow says: {error.message}"
    facts["seconds"] = time.perf_counter() - began
    if facts["failure"] is not None:
        return facts
    last = stages[-1]
    scores = {
        split: recipe.task.score(last[split]) for split in ("validation", "test") if last[split]
    }
    return {
        **facts,
        "metric": scores["validation"][0],
        "scores": {split: value for split, (_, value) in scores.items()},
        "loss": last["validation"]["loss"],
        "learning_rates": {stage["name"]: stage["learning_rate"] for stage in stages},
        "epochs": {stage["name"]: stage["epochs_run"] for stage in stages},
        "frozen_blocks": [stage["frozen_blocks"] for stage in stages],
        "parameters": count_parameters(staged.model.weights),
    }


def _row(point: Point, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns a row of the comparison; its scores are means over the trials that ended well."""
    done = [result for result in results if result["failure"] is None]
    splits = done[0]["scores"] if done else ()
    return {
        "name": point.name,
        "overrides": list(point.overrides),
        "scores": {split: _spread([each["scores"][split] for each in done]) for split in splits},
        "loss": _spread([each["loss"] for each in done]) if done else None,
        "seconds": sum(result["seconds"] for result in results),
        "failures": [result["failure"] for result in results if result["failure"]],
        "repeats": list(results),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "low": min(values), "high": max(values)}


def _report(
    loaded: LoadedRecipe,
    plan: TrialPlan,
    points: Sequence[dict[str, Any]],
    info: DataInfo,
    timer: Timer,
    command: str,
    smoke: bool,
) -> dict[str, Any]:
    done = [each for point in points for each in point["repeats"] if each["failure"] is None]
    best = _best(points)
    return {
        "format": 1,
        "smoke": smoke,
        "kind": plan.kind,
        "title": loaded.name,
        "description": loaded.description,
        "command": command,
        "started": timer.started.isoformat(timespec="seconds"),
        "seconds": timer.as_json()["total"],
        "planned": plan.trials,
        "seeds": list(plan.seeds),
        "folds": plan.folds,
        "metric": done[0]["metric"] if done else None,
        "best": best,
        "run_best": None if best is None else one_run(command, points[best]["overrides"]),
        "points": list(points),
        "data": info.as_json(),
        "recipe": to_plain(loaded.recipe),
        "environment": environment(),
    }


def _best(points: Sequence[dict[str, Any]]) -> int | None:
    """Returns the position of the point of the highest validation score; of equals, lowest loss."""
    scored = [index for index, point in enumerate(points) if point["scores"]]

    def rank(index: int) -> tuple[float, float]:
        point = points[index]
        return point["scores"]["validation"]["mean"], -point["loss"]["mean"]

    return max(scored, key=rank, default=None)


def _told(point: Point, plan: TrialPlan, result: dict[str, Any]) -> str:
    """Returns what to say of a trial, in a line."""
    names = [point.name] if plan.kind != "repeats" else []
    if plan.repeats > 1:
        names.append(result["name"])
    told = ", ".join(names)
    if result["failure"] is not None:
        return f"{told}  failed: {result['failure'].partition(chr(10))[0]}"
    scores = ", ".join(f"{split} {value:.4f}" for split, value in result["scores"].items())
    return f"{told}  {result['metric']}: {scores}  ({result['seconds']:.1f} s)"


def _say_best(run: RunFolder, plan: TrialPlan, report: dict[str, Any]) -> None:
    best, points = report["best"], report["points"]
    if best is None:
        raise RecipeError(
            f"No trial came to an end; what stopped each is in {run.file(TRIALS)}. The first: "
            f"{points[0]['failures'][0]}"
        )
    point = points[best]
    scores = ", ".join(_shown(split, spread, plan) for split, spread in point["scores"].items())
    if plan.kind == "repeats":
        run.line(f"mean  {report['metric']}: {scores}")
        return
    run.line(f"best  {point['name']}  {report['metric']}: {scores}")
    count = sum(bool(each["scores"]) for each in points)
    if count > 1:
        run.line(f"note  the best of {count} on validation is optimistic; its own run tests it")
    run.line(f"run it  {report['run_best']}")


def _shown(split: str, spread: dict[str, float], plan: TrialPlan) -> str:
    values = f" ({spread['low']:.4f} to {spread['high']:.4f})" if plan.repeats > 1 else ""
    return f"{split} {spread['mean']:.4f}{values}"


@contextlib.contextmanager
def _no_word_on_retracing() -> Iterator[None]:
    """Keeps back TensorFlow's advice on functions that are traced often: here each model is new."""
    logger = logging.getLogger("tensorflow")

    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
