"""Sides of the staged benchmark that use this package: a run, a sweep, and its lower bound."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
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
from sft_keras.tasks.base import build_task
from sft_keras.training.experiment import Experiment
from sft_keras.training.prepare import prepare_stage
from sft_keras.training.setup import open_backbone_and_data
from sft_keras.training.trainer import train_stages

_METRICS = ("loss", "val_loss", "accuracy", "val_accuracy")


def ours(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Run the stages as `finetune` does, up to the trained model.

    Returns the same keys as `plain_keras.plain`, and facts about the feature cache.
    """
    files = Files(folder)
    run = RunFolder.create("run", tempfile.mkdtemp(dir=folder), overwrite=False)
    timer = Timer()
    recipe = recipe_of(experiment, files)
    with configured_keras(recipe):
        with timer("backbone and listing"):
            backbone, splits = open_backbone_and_data(recipe)
        with timer("data"):
            prepared = build_task(recipe, splits.info).preprocessor.preprocess(
                splits, lambda done, total: None
            )
        with timer("build"):
            staged = with_initial_head(recipe, backbone, splits.info, files)
        with timer("stages"):
            stages = train_stages(Experiment(recipe, staged, prepared, splits.info, run))
    return result_of(stages, timer)


def result_of(stages: Sequence[Mapping[str, Any]], timer: Timer) -> dict[str, Any]:
    """Return the result of a side whose stages were timed as "stages"."""
    seconds = timer.as_json()
    per_stage = {stage["name"]: stage["seconds"] for stage in stages}
    # Mostly the pass over the frozen blocks, whose own seconds are in "frozen_blocks"; the rest is
    # compiling and the evaluation after a stage.
    remainder = seconds.pop("stages") - sum(per_stage.values())
    return {
        "seconds": seconds.pop("total"),
        "parts": {**seconds, **per_stage, "frozen pass and around": remainder},
        "frozen_blocks": {stage["name"]: stage["frozen_blocks"] for stage in stages},
        "best_epochs": {stage["name"]: stage["best_epoch"] for stage in stages},
        "histories": {
            stage["name"]: {name: stage["history"][name] for name in _METRICS} for stage in stages
        },
        "trainable_parameters": {stage["name"]: stage["trainable_parameters"] for stage in stages},
    }


def ours_sweep(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Run the sweep over the learning rates as the command does, report included.

    Its heads start from the same kernel as the script's, which was drawn with the recipe's seed.
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
    # One of the trials has the learning rate of the script.
    same = LEARNING_RATES.index(stage.learning_rate)
    (trial,) = report["points"][same]["repeats"]
    history = json.loads((run_dir / trial["folder"] / "history.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "parts": {point["name"]: point["seconds"] for point in report["points"]},
        "frozen_blocks": [point["repeats"][0]["frozen_blocks"] for point in report["points"]],
        "histories": {
            name: {metric: values[metric] for metric in _METRICS}
            for name, values in history.items()
        },
    }


def ideal(experiment: ImageExperiment, folder: Path) -> dict[str, Any]:
    """Time the lower bound of a staged run: one pass over the frozen blocks plus training steps.

    Each part is timed separately, as a graph traced beforehand, over tensors in memory: the
    training steps, and one validation per epoch. Opening the data, building and tracing are not
    included.
    """
    files = Files(folder)
    # The lower bound does not include the cost of determinism.
    recipe = dataclasses.replace(recipe_of(experiment, files), deterministic=False)
    timer, histories = Timer(), {}
    with configured_keras(recipe):
        backbone, splits = open_backbone_and_data(recipe)
        staged = with_initial_head(recipe, backbone, splits.info, files)
        loaded = {name: load_split(experiment, files, name) for name in ("train", "validation")}
        boundaries = frozen_pass(
            staged, recipe, {name: images for name, (images, _) in loaded.items()}, timer
        )
        labels = {
            name: tf.one_hot(classes, splits.info.num_classes)
            for name, (_, classes) in loaded.items()
        }
        for stage, features in zip(recipe.stages, boundaries, strict=True):
            order = tf.constant(np.load(files.order(stage)))
            histories[stage.name] = train_suffix(
                staged, stage, recipe, features, labels, order, timer
            )
    parts = timer.seconds
    return {
        "seconds": sum(parts.values()),
        "parts": parts,
        "histories": histories,
    }


def with_initial_head(
    recipe: Recipe, backbone: BuiltBackbone, info: DataInfo, files: Files
) -> StagedModel:
    """Return the model with the initial head of both sides."""
    staged = build_task(recipe, info).build_model(backbone)
    head_kernel(staged).assign(np.load(files.kernel))
    return staged


def frozen_pass(
    staged: StagedModel, recipe: Recipe, images: Mapping[str, tf.Tensor], timer: Timer
) -> list[dict[str, tf.Tensor]]:
    """Return the features of each stage per split, computed and timed as "frozen pass"."""
    blocks = len(staged.backbone.blocks)
    prefix = staged.prefix_model([blocks - stage.unfreeze for stage in recipe.stages])

    @tf.function(input_signature=[tf.TensorSpec(prefix.input_shape, tf.uint8)])
    def compute(batch: tf.Tensor) -> list[tf.Tensor]:
        # Flattened, because a model with a single output may return it without a list.
        return tf.nest.flatten(prefix(tf.cast(batch, tf.float32), training=False))

    size = recipe.data.batch_size
    compute(images["train"][:size])  # traces the graph, outside the timing
    features: list[dict[str, tf.Tensor]] = [{} for _ in recipe.stages]
    with timer("frozen pass"):
        for name, pixels in images.items():
            starts = range(0, len(pixels), size)
            batches = [compute(pixels[start : start + size]) for start in starts]
            for boundary, outputs in zip(features, zip(*batches, strict=True), strict=True):
                boundary[name] = tf.concat(outputs, 0)
    return features


def train_suffix(
    staged: StagedModel,
    stage: Stage,
    recipe: Recipe,
    features: Mapping[str, tf.Tensor],
    labels: Mapping[str, tf.Tensor],
    order: tf.Tensor,
    timer: Timer,
) -> dict[str, list[float]]:
    """Train the blocks above a stage's boundary in one in-graph loop and return the losses.

    Training is timed as "STAGE steps", and one validation per epoch as "STAGE validation".
    """
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=stage.label_smoothing
    )
    model = prepare_stage(staged, stage, order.shape[0], loss, [], from_boundary=True)
    optimizer, size = model.optimizer, recipe.data.batch_size
    optimizer.build(model.trainable_variables)

    def batch_loss(split: str, chosen: tf.Tensor, training: bool) -> tf.Tensor:
        logits = model(tf.gather(features[split], chosen), training=training)
        return loss(tf.gather(labels[split], chosen), logits)

    def mean_over(split: str, order: tf.Tensor, step_loss: Any) -> tf.Tensor:
        total, count = tf.constant(0.0), tf.shape(order)[0]
        for start in tf.range(0, count, size):
            chosen = order[start : start + size]
            total += step_loss(split, chosen) * tf.cast(tf.shape(chosen)[0], tf.float32)
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
        mean_loss = tf.constant(0.0)
        stored_order = tf.range(tf.shape(labels["validation"], tf.int64)[0])
        for _ in tf.range(times):
            mean_loss = mean_over(
                "validation", stored_order, lambda split, chosen: batch_loss(split, chosen, False)
            )
        return mean_loss

    results = {}
    for name, run in (("steps", train), ("validation", validate)):
        run(tf.constant(0))  # traces the graph, outside the timing
        with timer(f"{stage.name} {name}"):
            results[name] = run(tf.constant(stage.epochs)).numpy()
    return {"loss": results["steps"].tolist(), "val_loss": [float(results["validation"])]}
