"""The main path: a recipe in; a fine-tuned model, its report and its SavedModel out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from sft_keras.adapters import layers_to_adapt
from sft_keras.backbones import BuiltBackbone
from sft_keras.data.examples import DataInfo, Splits
from sft_keras.data.prepared import Prepared
from sft_keras.environment import keras_for
from sft_keras.errors import BackboneError, DataError, SFTError, numbered
from sft_keras.export import check_saved_model, export_saved_model
from sft_keras.recipe import Recipe
from sft_keras.recipe_loader import as_plain, load_recipe
from sft_keras.report import write_report
from sft_keras.run_facts import Clock, about_run
from sft_keras.run_folder import RunFolder
from sft_keras.staged_model import StagedModel
from sft_keras.stages import count_parameters
from sft_keras.tasks.base import Task
from sft_keras.training import build_staged, train_stages

_CHECKED_EXAMPLES = 32


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
    smoke: bool = False,
    command: str = "sft_keras.finetune(...)",
) -> Result:
    """Runs a recipe from the data to the checked SavedModel.

    Args:
      recipe: The name of a recipe that comes along, a recipe file's path, or a Recipe.
      overrides: "PATH=VALUE" each, as `--set` takes them.
      run_dir: Where to write; None for a new folder under runs/.
      overwrite: Whether an earlier run in `run_dir` may be deleted.
      smoke: Whether to run on synthetic data and random weights, to try the path in seconds.
      command: What to repeat the run with, for the report.

    Raises:
      SFTError: One of `sft_keras.errors`, with the whole story in its message.
    """
    loaded = load_recipe(recipe, overrides)
    if smoke:
        loaded = dataclasses.replace(loaded, recipe=loaded.recipe.task.for_smoke(loaded.recipe))
    plan = loaded.recipe
    plan.data.require_path()
    run = RunFolder.create(loaded.name, run_dir, overwrite)
    run.write_json("recipe.json", as_plain(plan))
    clock = Clock()
    with keras_for(plan):
        with run.discarded_on_error(), clock("data"):
            backbone, splits = open_backbone_and_data(plan)
            run.write_json("splits.json", splits.as_json())
            prepared = plan.task.prepare(splits, plan, _progress(run, "reading"))
            staged = build_staged(plan, backbone, splits.info)
            _say_what_is_trained(run, plan, staged, splits.info)
        with clock("stages"):
            stages = train_stages(staged, plan, prepared, splits.info, run)
        staged.model.save(run.file("model.keras"))
        notes = plan.task.write_more(staged, plan, run.path)
        with clock("evaluation"):
            test = prepared["test"]
            batches = plan.task.evaluation_batches(test, plan, splits.info)
            outputs = plan.task.answers(staged.model, batches)
            metrics = plan.task.evaluate(outputs, test, splits.info, plan.seed)
            mistakes, pictures = plan.task.worst_mistakes(outputs, test, splits.info)
        with clock("export"):
            run.say("export  writing the SavedModel and asking it in a fresh process")
            exported = export_and_check(staged, plan, test, outputs, splits.info, run)
    report = {
        **about_run(loaded, smoke, command, clock, splits.info, staged),
        "inputs": {name: dict(split.facts) for name, split in prepared.items()},
        "stages": stages,
        "score": plan.task.score(metrics)[0],
        "test": metrics,
        "mistakes": mistakes,
        "export": exported,
        "notes": notes,
    }
    write_report(report, {"mistakes": pictures} if pictures else {}, run.path)
    for note in notes:
        run.say(f"note  {note}")
    _say_how_it_went(run, plan.task, metrics)
    return Result(
        metrics=metrics,
        history={stage["name"]: stage["history"] for stage in stages},
        model=staged.model,
        report=report,
        run_dir=run.path,
        export_dir=run.file("export"),
    )


def open_backbone_and_data(recipe: Recipe) -> tuple[BuiltBackbone, Splits]:
    """Builds the backbone and lists the data; what either lacks is said in one error."""
    found: list[Any] = []
    missing: list[SFTError] = []
    for opening in (
        lambda: recipe.task.build_backbone(recipe),
        lambda: recipe.task.open_data(recipe, recipe.seed),
    ):
        try:
            found.append(opening())
        except (BackboneError, DataError) as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        raise DataError(numbered("The run cannot start.", [str(error) for error in missing]))
    backbone, splits = found
    recipe.task.require_fit(recipe, splits.info)
    for stage in recipe.stages:
        # These refuse what the backbone cannot do, before the long work.
        backbone.cut(stage.unfreeze)
        layers_to_adapt(backbone, stage)
    return backbone, splits


def export_and_check(
    staged: StagedModel,
    recipe: Recipe,
    test: Prepared,
    outputs: Any,
    info: DataInfo,
    run: RunFolder,
) -> dict[str, Any]:
    """Writes the SavedModel, asks it in a fresh process, and returns what the report says of it."""
    endpoints = recipe.task.endpoints(staged.model, recipe, info)
    export_saved_model(endpoints, staged.model, run.file("export"))
    samples, expected = recipe.task.serving_samples(outputs, test, _CHECKED_EXAMPLES)
    checked = check_saved_model(
        run.file("export"),
        samples,
        expected,
        endpoints.needs,
        endpoints.compared,
        endpoints.unit,
    )
    return {"path": "export", **endpoints.as_json(), **checked}


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


def _say_how_it_went(run: RunFolder, task: Task, metrics: dict[str, Any]) -> None:
    run.say(f"test  {task.summary(metrics)}")
    run.say(f"report  {run.file('report.html')}")
    run.say(f"predict  python -m sft_keras.predict --run={run.path} {task.asked_about}...")
