"""A run's model and data, opened and then trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from sft_keras.backbones.layers import count_parameters
from sft_keras.core.snapshot import Snapshot
from sft_keras.core.timer import Timer
from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.data.service.client import DataService
from sft_keras.distributed.devices import Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.runs.checkpoints import Checkpoints
from sft_keras.runs.folder import RunFolder
from sft_keras.runs.interrupt import StopRequest
from sft_keras.runs.resume import require_same_data
from sft_keras.training.audit import require_same_weights
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.freezing import random_states
from sft_keras.training.setup import build_staged, digest_of_splits, open_backbone_and_data
from sft_keras.training.trainer import train_stages


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run that is ready to train.

    Attributes:
      resumed: The checkpoint to go on from; None for none.
      staged: The model, as it is at the start of any run of the recipe.
      prepared: The splits.
      info: Facts about them.
      digest: Of all examples.
      clock: How long it took so far.
    """

    resumed: Snapshot | None
    staged: StagedModel
    prepared: Mapping[str, Prepared]
    info: DataInfo
    digest: str
    timer: Timer


def open_run(
    recipe: Recipe,
    run: RunFolder,
    resumed: Snapshot | None,
    devices: Devices,
    allow_changed: Sequence[str],
    service: DataService | None = None,
) -> OpenedRun:
    """Opens the backbone and the data.

    Args:
      recipe: The run's.
      run: Where to say how it goes.
      resumed: The checkpoint to go on from; None for none.
      devices: Which must all have opened the same.
      allow_changed: See `finetune`.
      service: What reads the examples; None for this process.

    Raises:
      SFTError: As `open_backbone_and_data`, or if a resumed run has other examples.
      ClusterError: If workers have different data, weights or checkpoints.
    """
    timer = Timer()
    if resumed is not None:
        timer.resume(resumed.facts["seconds"])
    with timer("data"):
        with devices.scope():
            backbone, splits = open_backbone_and_data(recipe)
        if service is not None:
            splits = service.reading(splits)
        prepared = recipe.task.preprocess(splits, recipe, _progress(run, "reading"))
        if devices.needs_static_shapes:
            prepared = {name: split.with_few_lengths() for name, split in prepared.items()}
        digest = digest_of_splits(prepared)
        if resumed is not None:
            require_same_data(run.path, resumed.facts["data"], digest, allow_changed)
        run.write_json("splits.json", splits.as_json())
        with devices.scope():
            staged = build_staged(recipe, backbone, splits.info)
    _say_what_is_trained(run, recipe, staged, splits.info, devices)
    if service is not None:
        run.line(
            f"service  {service.address} reads and decodes; batches are those of a run without"
        )
    devices.require_same("precision", keras.config.dtype_policy().name)
    devices.require_same("data", digest)
    devices.require_same(
        "way to read it", str({n: s.features is None for n, s in prepared.items()})
    )
    devices.require_same("checkpoint", _where(resumed))
    require_same_weights(staged, devices, "at the start")
    devices.offset_seeds(random_states(staged))
    return OpenedRun(resumed, staged, prepared, splits.info, digest, timer)


def in_this_process(opened: OpenedRun, recipe: Recipe, devices: Devices) -> StagedModel:
    """Returns the trained model, with weights that no devices hold which were only lent to it."""
    if not devices.needs_static_shapes:
        return opened.staged
    staged = build_staged(recipe, recipe.task.build_backbone(recipe), opened.info)
    trained = opened.staged.model.variables
    for variable, value in zip(staged.model.variables, trained, strict=True):
        variable.assign(value.numpy())
    return staged


def train_opened(
    opened: OpenedRun,
    recipe: Recipe,
    run: RunFolder,
    checkpoints: Checkpoints,
    stop: StopRequest,
    devices: Devices,
) -> list[dict[str, Any]]:
    """Runs the stages, or what is left of them; see `train_stages`.

    Args:
      opened: The run; its model is trained in place.
      recipe: The run's.
      run: Where to write and say how it goes.
      checkpoints: Where those of the run lie.
      stop: Whether the run is to end.
      devices: What the stages are trained on.
    """
    checkpointer = Checkpointer(
        opened.staged,
        checkpoints,
        recipe.checkpoints,
        about={"data": opened.digest},
        stop=stop,
        timer=opened.timer,
        reporter=run,
        resumed=opened.resumed,
        devices=devices,
    )
    return train_stages(
        opened.staged,
        recipe,
        opened.prepared,
        opened.info,
        run,
        checkpointer=checkpointer,
        devices=devices,
    )


def _where(resumed: Snapshot | None) -> str:
    """Returns what tells a checkpoint from others of its run."""
    if resumed is None:
        return "none"
    return json.dumps(resumed.facts, sort_keys=True, default=str)


def _progress(run: RunFolder, what: str) -> Any:
    return lambda done, total: run.progress(f"{what} {done}/{total}")


def _say_what_is_trained(
    run: RunFolder, recipe: Recipe, staged: StagedModel, info: DataInfo, devices: Devices
) -> None:
    run.line(f"data  {info.summary()}")
    run.line(
        f"model  {recipe.backbone.preset} ({recipe.backbone.weights or 'random weights'}): "
        f"{count_parameters(staged.model.weights):,} parameters, "
        f"{len(staged.backbone.blocks)} blocks; computes in {keras.config.dtype_policy().name}"
    )
    if devices.num_replicas > 1:
        run.line(f"devices  {devices.describe(recipe.data.batch_size)}")
