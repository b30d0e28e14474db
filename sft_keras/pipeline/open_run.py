"""Open a run's model and data, and train them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import keras

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.backbones.layers import count_parameters
from sft_keras.core.snapshot import Snapshot
from sft_keras.core.timer import Timer
from sft_keras.data.examples import Splits
from sft_keras.data.notes import report_data
from sft_keras.data.prepared import Prepared
from sft_keras.data.service.client import DataService
from sft_keras.distributed.devices import Devices
from sft_keras.pipeline.options import RunOptions
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.folder import RunFolder
from sft_keras.runs.interrupt import StopRequest
from sft_keras.runs.resume import require_same_data
from sft_keras.tasks.base import build_task
from sft_keras.training.audit import require_same_weights
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.experiment import Experiment
from sft_keras.training.freezing import random_states
from sft_keras.training.setup import build_staged, digest_of_splits, open_backbone_and_data
from sft_keras.training.trainer import train_stages


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run that is ready to train.

    Attributes:
      experiment: Recipe, newly built model, data, run folder and devices.
      digest: A digest of all examples.
      timer: Duration of the run so far.
      resumed: The checkpoint to resume from; None for a new run.
    """

    experiment: Experiment
    digest: str
    timer: Timer
    resumed: Snapshot | None = None


def open_run(
    recipe: Recipe,
    run: RunFolder,
    devices: Devices,
    options: RunOptions,
    resumed: Snapshot | None = None,
) -> OpenedRun:
    """Open the backbone and the data, and verify that all workers opened the same.

    Args:
      recipe: The run's recipe.
      run: The run folder.
      devices: The devices or workers to train on.
      options: How the run was started.
      resumed: The checkpoint to resume from; None for a new run.

    Raises:
      SFTError: As `open_backbone_and_data`, or if a resumed run has other examples.
      ClusterError: If workers have different data, weights or checkpoints.
    """
    timer, service = Timer(), options.service
    if resumed is not None:
        timer.resume(resumed.facts["seconds"])
    with timer("data"):
        backbone, splits, prepared = _open_parts(recipe, run, devices, service)
        digest = digest_of_splits(prepared)
        if resumed is not None:
            require_same_data(run.path, resumed.facts["data"], digest, options.allow_changed)
        run.write_json("splits.json", splits.as_json())
        with devices.scope():
            staged = build_staged(recipe, backbone, splits.info)
    experiment = Experiment(recipe, staged, prepared, splits.info, run, devices)
    _report_opened(experiment, service)
    _require_same_on_all_workers(experiment, digest, resumed)
    devices.offset_seeds(random_states(experiment.staged))
    return OpenedRun(experiment, digest, timer, resumed)


def train_opened(
    opened: OpenedRun, checkpoints: Checkpoints, stop: StopRequest
) -> list[dict[str, Any]]:
    """Train the stages, or those left of a resumed run; see `train_stages`.

    Args:
      opened: The run; its model is trained in place.
      checkpoints: The run's checkpoints.
      stop: Whether a signal has asked the run to stop.
    """
    experiment = opened.experiment
    checkpointer = Checkpointer(
        experiment.staged,
        checkpoints,
        experiment.recipe.checkpoints,
        about={"data": opened.digest},
        stop=stop,
        timer=opened.timer,
        reporter=experiment.run,
        resumed=opened.resumed,
        devices=experiment.devices,
    )
    return train_stages(experiment, checkpointer=checkpointer)


def with_local_model(experiment: Experiment) -> Experiment:
    """Return the experiment with its trained weights on the host.

    The variables of a model trained on a TPU live on its cores; they are copied to a new model.
    """
    if not experiment.devices.needs_static_shapes:
        return experiment
    recipe, trained = experiment.recipe, experiment.staged.model.variables
    staged = build_staged(recipe, experiment.task.build_backbone(), experiment.info)
    for variable, value in zip(staged.model.variables, trained, strict=True):
        variable.assign(value.numpy())
    return dataclasses.replace(experiment, staged=staged)


def _open_parts(
    recipe: Recipe, run: RunFolder, devices: Devices, service: DataService | None
) -> tuple[BuiltBackbone, Splits, dict[str, Prepared]]:
    def progress(done: int, total: int) -> None:
        run.progress(f"reading {done}/{total}")

    with devices.scope():
        backbone, splits = open_backbone_and_data(recipe)
    if service is not None:
        splits = service.reading(splits)
    prepared = build_task(recipe, splits.info).preprocessor.preprocess(splits, progress)
    if devices.needs_static_shapes:
        prepared = {name: split.with_few_lengths() for name, split in prepared.items()}
    return backbone, splits, prepared


def _report_opened(experiment: Experiment, service: DataService | None) -> None:
    recipe, run, staged = experiment.recipe, experiment.run, experiment.staged
    report_data(run, experiment.info, experiment.prepared)
    run.line(
        f"model  {recipe.backbone.preset} ({recipe.backbone.weights or 'random weights'}): "
        f"{count_parameters(staged.model.weights):,} parameters, "
        f"{len(staged.backbone.blocks)} blocks; computes in {keras.config.dtype_policy().name}"
    )
    for note in staged.backbone.notes:
        run.line(f"note  {note}")
    if experiment.devices.num_replicas > 1:
        run.line(f"devices  {experiment.devices.describe(recipe.data.batch_size)}")
    if service is not None:
        run.line(
            f"service  {service.address} reads and decodes; batches are those of a run without it"
        )


def _require_same_on_all_workers(
    experiment: Experiment, digest: str, resumed: Snapshot | None
) -> None:
    devices, prepared = experiment.devices, experiment.prepared
    devices.require_same("precision", keras.config.dtype_policy().name)
    devices.require_same("data", digest)
    devices.require_same(
        "way to read it", str({name: split.features is None for name, split in prepared.items()})
    )
    checkpoint = "none"
    if resumed is not None:
        checkpoint = json.dumps(resumed.facts, sort_keys=True, default=str)
    devices.require_same("checkpoint", checkpoint)
    require_same_weights(experiment.staged, devices, "at the start")
