"""Trains all stages of a recipe, each on what its frozen blocks gave, and scores them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.cache.disk import TRUNCATED
from sft_keras.cache.feature_cache import FeatureCache, StageInput
from sft_keras.cache.memory import MemoryStore
from sft_keras.core.errors import DataError, LossError
from sft_keras.core.snapshot import Snapshot, plain
from sft_keras.data.examples import SPLITS, DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage, stage_length
from sft_keras.runs.folder import RunFolder
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.eta import EtaEstimator
from sft_keras.training.loop import Left, StageResult, run_stage
from sft_keras.training.lr_finder import range_test
from sft_keras.training.setup import stage_adapters


def train_stages(
    staged: StagedModel,
    recipe: Recipe,
    prepared: Mapping[str, Prepared],
    info: DataInfo,
    run: RunFolder,
    memory: MemoryStore | None = None,
    scores_test: bool = False,
    checkpointer: Checkpointer | None = None,
    devices: Devices = ONE_DEVICE,
) -> list[dict[str, Any]]:
    """Runs the stages one after the other; returns each one's result with its validation figures.

    Args:
      staged: The model; trained in place.
      recipe: Whose stages are run.
      prepared: The splits.
      info: Facts about them.
      run: Where to write and say how it goes.
      memory: Where what the frozen blocks give outlives this call, see `FeatureCache`.
      scores_test: Whether the last stage's result has figures of the test split too.
      keeper: Takes the checkpoints, and has the one to go on from; None for none.
      devices: What the stages are trained on.

    Raises:
      KeyboardInterrupt: If the run is to end; the keeper has a checkpoint.
      LossError: If a loss went bad; the best weights so far are in the run folder.
      DataError: If what is stored on disk was damaged while it was read.
    """
    read = SPLITS if scores_test else ("train", "validation")
    store = FeatureCache(
        staged,
        recipe,
        prepared,
        info,
        reporter=run,
        splits=read,
        memory=memory,
        devices=devices,
    )
    try:
        return _trained(staged, recipe, store, info, run, read, checkpointer, devices)
    except tf.errors.UnknownError as error:
        if TRUNCATED not in str(error):
            raise
        raise DataError(
            "What frozen blocks gave and was stored on disk has been cut off or overwritten while "
            "it was trained on. Run again: what is damaged is found and computed anew."
        ) from error
    finally:
        store.close()


def _trained(
    staged: StagedModel,
    recipe: Recipe,
    store: FeatureCache,
    info: DataInfo,
    run: RunFolder,
    read: Sequence[str],
    checkpointer: Checkpointer | None,
    devices: Devices,
) -> list[dict[str, Any]]:
    resumed = None if checkpointer is None else checkpointer.resumed
    results = [] if resumed is None else list(resumed.facts["results"])
    if resumed is not None:
        checkpointer.restore(resumed)  # what later stages find frozen
    time_left = EtaEstimator(staged, recipe, info)
    for planned in recipe.stages[len(results) :]:
        source = store.input_of(planned)
        time_left.see(planned, source)
        run.line(f"{planned.name}  frozen blocks: {source.story}")
        devices.require_same(f"way to read stage {planned.name!r}", source.fingerprint)
        if resumed is not None and resumed.facts["within"] is None:
            resumed = None  # it ends where this stage begins
        rate_test = None if resumed is None else resumed.facts["rate_test"]
        if rate_test is not None:
            stage = dataclasses.replace(planned, learning_rate=rate_test["chosen"])
        else:
            stage, rate_test = _with_rate(staged, recipe, planned, source, info, run, devices)
        if checkpointer is not None:
            checkpointer.facts = {"results": results, "rate_test": rate_test}
        try:
            result = _run_stage(
                staged,
                recipe,
                stage,
                source,
                info,
                run,
                checkpointer,
                resumed,
                devices,
                results,
                functools.partial(time_left.describe, planned),
            )
        except LossError as error:
            staged.model.save(run.file("last_good.keras"))
            raise LossError(
                f"{error} The best weights so far are in {run.file('last_good.keras')}."
            ) from error
        resumed = None
        store.drop_after(planned)
        figures = dict.fromkeys(("validation", "test"))
        for name in read[1:] if planned is recipe.stages[-1] else read[1:2]:
            outputs, figures[name] = _evaluated(staged, recipe, stage, source, info, name, devices)
            if name == "validation":
                temperature = recipe.task.temperature(outputs, source.prepared[name])
        _say_stage(run, result, recipe.task.summary(figures["validation"]))
        story = {
            "temperature": temperature,
            "rate_test": rate_test,
            "frozen_blocks": source.story,
            "frozen_pass": source.frozen_pass,
        }
        results.append(plain({**result.as_json(), **figures, **story}))
        run.write_json("history.json", {each["name"]: each["history"] for each in results})
        if checkpointer is not None:
            checkpointer.facts = {"results": results, "rate_test": None}
            checkpointer.end_stage()
    return results


def _run_stage(
    staged: StagedModel,
    recipe: Recipe,
    stage: Stage,
    source: StageInput,
    info: DataInfo,
    run: RunFolder,
    checkpointer: Checkpointer | None,
    resumed: Snapshot | None,
    devices: Devices,
    earlier: Sequence[Mapping[str, Any]],
    left: Left,
) -> StageResult:
    """Runs a stage from its start, or from a checkpoint within it."""
    task, train = recipe.task, source.prepared["train"]
    before = sum(each["steps"] for each in earlier)
    with contextlib.ExitStack() as adapters:
        with devices.scope():
            adapters.enter_context(stage_adapters(staged, recipe, stage))
            metrics, watches = task.training_metrics(), task.output_monitors(info)
        return run_stage(
            staged,
            stage,
            length=stage_length(stage, len(train.examples), recipe.data.batch_size),
            loss=task.loss(stage),
            metrics=metrics,
            training=functools.partial(task.training_batches, train, recipe, stage, info),
            validation=task.evaluation_batches(source.prepared["validation"], recipe, info),
            reporter=run,
            has_start=recipe.number_of(stage) > 0 or task.evaluates_before_training,
            from_boundary=source.from_boundary,
            output_monitors=watches,
            checkpointer=checkpointer,
            resumed=resumed,
            devices=devices,
            note=lambda step, figures: run.epoch(stage.name, before + step, figures),
            left=left,
        )


def _with_rate(
    staged: StagedModel,
    recipe: Recipe,
    stage: Stage,
    source: StageInput,
    info: DataInfo,
    run: RunFolder,
    devices: Devices,
) -> tuple[Stage, dict[str, Any] | None]:
    """Returns the stage with a learning rate, and the range test where that was needed.

    Of several processes the chief alone makes the test, since each draws other dropout.
    """
    if stage.learning_rate != "auto":
        return stage, None
    if not devices.is_chief:
        (rate,) = devices.sum_over_workers([np.float64(0.0)])
        return dataclasses.replace(stage, learning_rate=float(rate)), {"chosen": float(rate)}
    with stage_adapters(staged, recipe, stage):
        test = range_test(
            staged,
            stage,
            loss=recipe.task.loss(stage),
            training=recipe.task.training_batches(source.prepared["train"], recipe, stage, info),
            from_boundary=source.from_boundary,
            reporter=run,
        )
    devices.sum_over_workers([np.float64(test.chosen)])  # tells the others
    run.line(f"{stage.name}  learning rate {test.chosen:.2g}, by a range test: {test.rule}")
    return dataclasses.replace(stage, learning_rate=test.chosen), test.as_json()


def _evaluated(
    staged: StagedModel,
    recipe: Recipe,
    stage: Stage,
    source: StageInput,
    info: DataInfo,
    split: str,
    devices: Devices,
) -> tuple[Any, dict[str, Any]]:
    """Returns what the model answers of a split, and the figures of that."""
    prepared = source.prepared[split]
    model = staged.inference_model(stage.unfreeze, source.from_boundary)
    batches = recipe.task.evaluation_batches(prepared, recipe, info)
    outputs = recipe.task.predict_outputs(model, batches, devices)
    return outputs, recipe.task.evaluate(outputs, prepared, info, recipe.seed)


def _say_stage(run: RunFolder, result: StageResult, summary: str) -> None:
    best = f"best epoch {result.best_epoch}"
    if result.best_epoch == 0:
        best = "no epoch was better than its start, whose weights were kept"
    if result.adapter is not None:
        best += (
            f"; adapters of rank {result.adapter['rank']} in {result.adapter['layers']} layers, "
            "added to their kernels"
        )
    if result.start is not None:
        best += f"; validation loss before {result.start['loss']:.4f}"
    run.line(
        f"{result.name}  {result.stopped}; {best}; "
        f"{result.trainable_parameters:,} parameters trained, "
        f"{result.audit.frozen_variables} frozen variables bit-identical; validation {summary}"
    )
