"""Run the trials of a plan on shared data, backbones and cached features, and compare them.

A trial trains all stages of its recipe and is evaluated on the validation split; nothing is
exported. If the trials only repeat one recipe, so that they select nothing, they are evaluated on
the test split too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from sft_keras.backbones.layers import count_parameters
from sft_keras.core.errors import RecipeError, SFTError
from sft_keras.core.timer import Timer
from sft_keras.data.examples import DataInfo
from sft_keras.data.notes import report_data
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.lora import layers_to_adapt
from sft_keras.recipe.loader import LoadedRecipe, to_plain
from sft_keras.recipe.metric import Metric
from sft_keras.recipe.recipe import Recipe
from sft_keras.report.sweep_page import write_sweep_page
from sft_keras.runs.console import Log, relay_warnings
from sft_keras.runs.environment import environment
from sft_keras.runs.folder import TRIALS, RunFolder
from sft_keras.sweeps.plan import Point, TrialPlan, one_run
from sft_keras.sweeps.shared import TrialContext, TrialData
from sft_keras.tasks.base import build_task
from sft_keras.training.experiment import Experiment
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
    """Run a plan; write trials.json, report.html and a folder per trial.

    trials.json is updated after each trial. If the rest is stopped, report.html shows the trials
    done so far.

    Args:
      loaded: The recipe to vary.
      plan: The trials, from `plan_trials`.
      run_dir: The run folder; None for a new folder under runs/.
      overwrite: Whether an earlier run in `run_dir` may be deleted.
      smoke: Whether the recipe was made for `--smoke`, for the report.
      command: The command that repeats the trials, for the report.
      log: What to print, see `finetune`.

    Returns:
      The content of trials.json; "points" are in the order of the plan.

    Raises:
      SFTError: If the data of the first point cannot be read or does not fit the recipe, in which
        case nothing is left behind; or if no trial finished. Any other failure, such as an
        unavailable backbone or a loss that is not finite, ends only the trial it occurs in.

    Example:
      >>> loaded = load_recipe("quickstart")  # doctest: +SKIP
      >>> plan = plan_trials(loaded.recipe, sweep=["stages.head.learning_rate=1e-3,1e-2"])
      >>> run_trials(loaded, plan)["points"][0]["scores"]
    """
    loaded.recipe.data.require_path()
    run = RunFolder.create(f"{loaded.name}-{plan.kind}", run_dir, overwrite, log=log)
    run.write_json("recipe.json", to_plain(loaded.recipe))
    timer = Timer()
    context = TrialContext(lambda done, total: run.progress(f"reading {done}/{total}"))
    with run.discarded_on_error(), relay_warnings(run):
        info = _open_data(plan, context)
    report_data(run, info)
    report: dict[str, Any] = {}
    try:
        with relay_warnings(run), _without_retracing_warnings():
            for points in _run_points(plan, context, run):
                report = _report(loaded, plan, points, info, timer, command, smoke)
                run.write_json(TRIALS, report)
    finally:
        if report:
            write_sweep_page(report, run.path)
    _report_best(run, plan, report)
    run.line(f"report  {run.file('report.html')}")
    return report


def _open_data(plan: TrialPlan, context: TrialContext) -> DataInfo:
    """Read the data of the first point, check the other points against it, return its facts."""
    first = plan.points[0].recipe
    info = next(context.data(first, first.seed, plan.folds)).info
    for point in plan.points:
        if point.recipe.data.source == first.data.source:
            build_task(point.recipe, info).check_against_data()
    return info


def _run_points(
    plan: TrialPlan, context: TrialContext, run: RunFolder
) -> Iterator[list[dict[str, Any]]]:
    """Run the trials; after each, yield the rows of the comparison known so far."""
    points: list[dict[str, Any]] = []
    for index, point in enumerate(plan.points):
        results: list[dict[str, Any]] = []
        for result in _run_trials_of(point, plan, context, run, index * plan.repeats + 1):
            results.append(result)
            number = index * plan.repeats + len(results)
            run.line(f"trial {number}/{plan.trials}  {_summary(point, plan, result)}")
            yield [*points, _row(point, results)]
        points.append(_row(point, results))


def _run_trials_of(
    point: Point, plan: TrialPlan, context: TrialContext, run: RunFolder, number: int
) -> Iterator[dict[str, Any]]:
    """Run the trials of a point, numbered from `number`, and yield the result of each."""
    try:
        trials = _trials_of(point, plan, context)
    except SFTError as error:
        failure = {"name": "data", "folder": None, "failure": str(error), "seconds": 0.0}
        yield from [failure] * plan.repeats
        return
    for index, trial in enumerate(trials, number):
        yield _run_one(trial, context, run, f"trials/{index:03d}", plan.kind == "repeats")


@dataclasses.dataclass(frozen=True)
class _Trial:
    name: str
    recipe: Recipe
    data: TrialData


def _trials_of(point: Point, plan: TrialPlan, context: TrialContext) -> list[_Trial]:
    """Return the trials of a point, one per fold or seed."""
    recipe = point.recipe
    # All trials of a point share its splits, whatever seed they train with.
    parts = list(context.data(recipe, recipe.seed, plan.folds))
    if plan.folds:
        return [_Trial(f"fold {number}", recipe, data) for number, data in enumerate(parts, 1)]
    seeds = [recipe.seed + seed - plan.seeds[0] for seed in plan.seeds]
    return [
        _Trial(f"seed {seed}", dataclasses.replace(recipe, seed=seed), parts[0]) for seed in seeds
    ]


def _run_one(
    trial: _Trial, context: TrialContext, run: RunFolder, name: str, scores_test: bool
) -> dict[str, Any]:
    """Run a trial in the folder `name` and return its scores, or why it failed."""
    recipe, info = trial.recipe, trial.data.info
    folder = RunFolder(run.file(name), is_quiet=True)
    folder.path.mkdir(parents=True)
    folder.write_json("recipe.json", to_plain(recipe))
    began = time.perf_counter()
    facts = {"name": trial.name, "folder": name, "failure": None, "seconds": 0.0}
    try:
        with configured_keras(recipe):
            build_task(recipe, info).check_against_data()
            backbone = context.backbone(recipe)
            for stage in recipe.stages:
                backbone.split(stage.unfreeze)
                layers_to_adapt(backbone, stage)
            staged = build_staged(recipe, backbone, info)
            stages = train_stages(
                Experiment(recipe, staged, trial.data.prepared, info, folder),
                memory=context.memory,
                scores_test=scores_test,
            )
    except SFTError as error:
        facts["failure"] = str(error)
    except tf.errors.ResourceExhaustedError as error:
        facts["failure"] = f"There was not enough memory. TensorFlow reports: {error.message}"
    facts["seconds"] = time.perf_counter() - began
    if facts["failure"] is not None:
        return facts
    last = stages[-1]
    score = recipe.task.score
    scores = {
        split: last[split][score.name]["value"] for split in ("validation", "test") if last[split]
    }
    return {
        **facts,
        "metric": score.name,
        "scores": scores,
        "loss": _validation_loss(last),
        "learning_rates": {stage["name"]: stage["learning_rate"] for stage in stages},
        "epochs": {stage["name"]: stage["epochs_run"] for stage in stages},
        "frozen_blocks": [stage["frozen_blocks"] for stage in stages],
        "parameters": count_parameters(staged.model.weights),
    }


def _validation_loss(stage: Mapping[str, Any]) -> float:
    """Return the loss in a stage's evaluation or, if there is none, that of its best epoch."""
    evaluated = stage["validation"].get("loss")
    if evaluated is not None:
        return float(evaluated)
    best = max(stage["best_epoch"], 1)  # 0 stands for the initial weights
    return float(stage["history"]["val_loss"][best - 1])


def _row(point: Point, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a row of the comparison. Its scores are means over the successful trials."""
    done = [result for result in results if result["failure"] is None]
    splits = done[0]["scores"] if done else ()
    return {
        "name": point.name,
        "overrides": list(point.overrides),
        "scores": {
            split: _spread([result["scores"][split] for result in done]) for split in splits
        },
        "loss": _spread([result["loss"] for result in done]) if done else None,
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
    results = [result for point in points for result in point["repeats"]]
    done = [result for result in results if result["failure"] is None]
    score = loaded.recipe.task.score
    best = _best(points, score)
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
        "metric": score.name if done else None,
        "metrics": {score.name: score.as_json()},
        "best": best,
        "run_best": None if best is None else one_run(command, points[best]["overrides"]),
        "points": list(points),
        "data": info.as_json(),
        "recipe": to_plain(loaded.recipe),
        "environment": environment(),
    }


def _best(points: Sequence[dict[str, Any]], score: Metric) -> int | None:
    """Return the index of the point with the best validation score, ties by lowest loss."""
    scored = [index for index, point in enumerate(points) if point["scores"]]

    def rank(index: int) -> tuple[float, float]:
        point = points[index]
        mean = point["scores"]["validation"]["mean"]
        return mean if score.higher_is_better else -mean, -point["loss"]["mean"]

    return max(scored, key=rank, default=None)


def _summary(point: Point, plan: TrialPlan, result: dict[str, Any]) -> str:
    """Return the result of a trial in one line."""
    names = [point.name] if plan.kind != "repeats" else []
    if plan.repeats > 1:
        names.append(result["name"])
    name = ", ".join(names)
    if result["failure"] is not None:
        return f"{name}  failed: {result['failure'].partition(chr(10))[0]}"
    scores = ", ".join(f"{split} {value:.4f}" for split, value in result["scores"].items())
    return f"{name}  {result['metric']}: {scores}  ({result['seconds']:.1f} s)"


def _report_best(run: RunFolder, plan: TrialPlan, report: dict[str, Any]) -> None:
    best, points = report["best"], report["points"]
    if best is None:
        raise RecipeError(
            f"No trial finished; the reason for each is in {run.file(TRIALS)}. The first: "
            f"{points[0]['failures'][0]}"
        )
    point = points[best]
    scores = ", ".join(
        _score_text(split, spread, plan) for split, spread in point["scores"].items()
    )
    if plan.kind == "repeats":
        run.line(f"mean  {report['metric']}: {scores}")
        return
    run.line(f"best  {point['name']}  {report['metric']}: {scores}")
    count = sum(bool(row["scores"]) for row in points)
    if count > 1:
        run.line(f"note  the best validation score of {count} is optimistic; its own run tests it")
    run.line(f"run it  {report['run_best']}")


def _score_text(split: str, spread: dict[str, float], plan: TrialPlan) -> str:
    values = f" ({spread['low']:.4f} to {spread['high']:.4f})" if plan.repeats > 1 else ""
    return f"{split} {spread['mean']:.4f}{values}"


@contextlib.contextmanager
def _without_retracing_warnings() -> Iterator[None]:
    """Suppress TensorFlow's retracing warnings: every trial traces a new model."""
    logger = logging.getLogger("tensorflow")

    def is_other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
