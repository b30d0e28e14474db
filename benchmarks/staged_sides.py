"""The sides of a pair that are this package's: the staged run, its sweep, and the ideal for it."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from image_experiments import LEARNING_RATES, Files, ImageExperiment, head_kernel, recipe_of
from plain_keras import load_split

from sft_keras import Recipe, Stage
from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.core.timer import Timer
from sft_keras.data.examples import DataInfo
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.loader import LoadedRecipe
from sft_keras.runs.folder import RunFolder
from sft_keras.sweeps.plan import plan_trials
from sft_keras.sweeps.run import run_trials
from sft_keras.training.experiment import Experiment
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import open_backbone_and_data
from sft_keras.training.trainer import train_stages

_FIGURES = ("loss", "val_loss", "accuracy", "val_accuracy")


def ours(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Runs the stages as `finetune` does, up to the trained model; see `plain_keras.plain`."""
    files = Files(folder)
    run = RunFolder.create("run", tempfile.mkdtemp(dir=folder), overwrite=False)
    timer = Timer()
    recipe = recipe_of(experiment, files)
    with configured_keras(recipe):
        with timer("backbone and listing"):
            backbone, splits = open_backbone_and_data(recipe)
        with timer("data"):
            prepared = recipe.task.preprocess(splits, recipe, lambda done, total: None)
        with timer("build"):
            staged = with_given_head(recipe, backbone, splits.info, files)
        with timer("stages"):
            stages = train_stages(Experiment(recipe, staged, prepared, splits.info, run))
    return result_of(stages, timer)


def result_of(stages: Sequence[Mapping[str, Any]], timer: Timer) -> dict[str, Any]:
    """Returns what a side of ours prints, of stages that `timer` timed as "stages"."""
    seconds = timer.as_json()
    fitted = {stage["name"]: stage["seconds"] for stage in stages}
    # Mostly the frozen pass, whose own seconds are in "frozen_blocks"; compiling and the figures
    # after a stage are the rest of it.
    around = seconds.pop("stages") - sum(fitted.values())
    return {
        "seconds": seconds.pop("total"),
        "parts": {**seconds, **fitted, "frozen pass and around": around},
        "frozen_blocks": {stage["name"]: stage["frozen_blocks"] for stage in stages},
        "best_epochs": {stage["name"]: stage["best_epoch"] for stage in stages},
        "histories": {
            stage["name"]: {name: stage["history"][name] for name in _FIGURES} for stage in stages
        },
        "trainable_parameters": {stage["name"]: stage["trainable_parameters"] for stage in stages},
    }


def ours_sweep(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Runs the sweep over the learning rates that the command runs, with its report.

    Its heads begin as the given one does: that was made with the recipe's seed.
    """
    files = Files(folder)
    timer = Timer()
    recipe = recipe_of(experiment, files)
    (stage,) = recipe.stages
    rates = ",".join(f"{rate:g}" for rate in LEARNING_RATES)
    plan = plan_trials(recipe, sweep=[f"stages.{stage.name}.learning_rate={rates}"])
    loaded = LoadedRecipe("sweep", "", recipe)
    run_dir = Path(tempfile.mkdtemp(dir=folder), "sweep")
    report = run_trials(loaded, plan, run_dir=run_dir)
    seconds = timer.as_json()["total"]
    # The script's own rate is among them.
    same = LEARNING_RATES.index(stage.learning_rate)
    (trial,) = report["points"][same]["repeats"]
    history = json.loads((run_dir / trial["folder"] / "history.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "parts": {point["name"]: point["seconds"] for point in report["points"]},
        "frozen_blocks": [point["repeats"][0]["frozen_blocks"] for point in report["points"]],
        "histories": {
            name: {figure: values[figure] for figure in _FIGURES}
            for name, values in history.items()
        },
    }


def ideal(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Times what no staged run can do without: one frozen forward pass, and the suffix' steps.

    Each is timed alone, as a graph that was traced before, over tensors in memory: the training
    steps, and those of as many validations as there are epochs. Opening the data, building and
    tracing are left out.
    """
    files = Files(folder)
    # An ideal pays nothing for determinism.
    recipe = dataclasses.replace(recipe_of(experiment, files), deterministic=False)
    timer, histories = Timer(), {}
    with configured_keras(recipe):
        backbone, splits = open_backbone_and_data(recipe)
        staged = with_given_head(recipe, backbone, splits.info, files)
        held = {name: load_split(experiment, files, name) for name in ("train", "validation")}
        boundaries = frozen_pass(staged, recipe, {name: held[name][0] for name in held}, timer)
        labels = {name: tf.one_hot(held[name][1], splits.info.num_classes) for name in held}
        for stage, features in zip(recipe.stages, boundaries, strict=True):
            order = tf.constant(np.load(files.order(stage)))
            histories[stage.name] = suffix_alone(
                staged, stage, recipe, features, labels, order, timer
            )
    parts = timer.seconds
    return {
        "seconds": sum(parts.values()),
        "parts": parts,
        "histories": histories,
    }


def with_given_head(
    recipe: Recipe, backbone: BuiltBackbone, info: DataInfo, files: Files
) -> StagedModel:
    """Returns the model with the head that both sides start from."""
    staged = recipe.task.build_model(backbone, info)
    head_kernel(staged).assign(np.load(files.kernel))
    return staged


def frozen_pass(
    staged: StagedModel, recipe: Recipe, images: Mapping[str, tf.Tensor], timer: Timer
) -> list[dict[str, tf.Tensor]]:
    """Returns what the frozen blocks of each stage give, per split; timed as "frozen pass"."""
    blocks = len(staged.backbone.blocks)
    prefix = staged.prefix_model([blocks - stage.unfreeze for stage in recipe.stages])

    @tf.function(input_signature=[tf.TensorSpec(prefix.input_shape, tf.uint8)])
    def compute(batch: tf.Tensor) -> list[tf.Tensor]:
        # Flattened, because a model of one output may return it bare.
        return tf.nest.flatten(prefix(tf.cast(batch, tf.float32), training=False))

    size = recipe.data.batch_size
    compute(images["train"][:size])  # traced, and optimised by TensorFlow
    found: list[dict[str, tf.Tensor]] = [{} for _ in recipe.stages]
    with timer("frozen pass"):
        for name, held in images.items():
            batches = [compute(held[at : at + size]) for at in range(0, len(held), size)]
            for boundary, outputs in zip(found, zip(*batches, strict=True), strict=True):
                boundary[name] = tf.concat(outputs, 0)
    return found


def suffix_alone(
    staged: StagedModel,
    stage: Stage,
    recipe: Recipe,
    features: Mapping[str, tf.Tensor],
    labels: Mapping[str, tf.Tensor],
    order: tf.Tensor,
    timer: Timer,
) -> dict[str, list[float]]:
    """Trains what is above a stage's boundary in one in-graph loop; returns the losses.

    Timed as "STAGE steps"; as many validations as there are epochs as "STAGE validation".
    """
    loss = recipe.task.loss(stage)
    model = prepare_stage(staged, stage, order.shape[0], loss, [], from_boundary=True)
    optimizer, size = model.optimizer, recipe.data.batch_size
    optimizer.build(model.trainable_variables)

    def batch_loss(split: str, chosen: tf.Tensor, training: bool) -> tf.Tensor:
        logits = model(tf.gather(features[split], chosen), training=training)
        return loss(tf.gather(labels[split], chosen), logits)

    def mean_over(split: str, order: tf.Tensor, one_loss: Any) -> tf.Tensor:
        total, count = tf.constant(0.0), tf.shape(order)[0]
        for start in tf.range(0, count, size):
            chosen = order[start : start + size]
            total += one_loss(split, chosen) * tf.cast(tf.shape(chosen)[0], tf.float32)
        return total / tf.cast(count, tf.float32)

    def step(split: str, chosen: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = batch_loss(split, chosen, training=True)
        weights = [variable.value for variable in model.trainable_variables]
        optimizer.apply(tape.gradient(value, weights), model.trainable_variables)
        return value

    @tf.function
    def train(epochs: tf.Tensor) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, epochs)
        for epoch in tf.range(epochs):
            losses = losses.write(epoch, mean_over("train", order[epoch], step))
        return losses.stack()

    @tf.function
    def validate(times: tf.Tensor) -> tf.Tensor:
        loss_now = tf.constant(0.0)
        stored = tf.range(tf.shape(labels["validation"], tf.int64)[0])
        for _ in tf.range(times):
            loss_now = mean_over(
                "validation", stored, lambda split, chosen: batch_loss(split, chosen, False)
            )
        return loss_now

    results = {}
    for name, run in (("steps", train), ("validation", validate)):
        run(tf.constant(0))  # traced, and optimised by TensorFlow
        with timer(f"{stage.name} {name}"):
            results[name] = run(tf.constant(stage.epochs)).numpy()
    return {"loss": results["steps"].tolist(), "val_loss": [float(results["validation"])]}
