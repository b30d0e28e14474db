"""The experiment: everything that stays the same while a recipe trains."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from sft_keras.cache.feature_cache import StageInput
from sft_keras.data.examples import DataInfo
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks.base import Task, build_task
from sft_keras.training.setup import stage_adapters


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A recipe with the model and the data opened for it.

    Attributes:
      recipe: The recipe to train.
      staged: The model; training changes its weights in place.
      prepared: {split: prepared examples}.
      info: Facts about the data, such as class names and split sizes.
      run: The run folder: takes files, log lines and metrics (it is a `Reporter`).
      devices: The devices or workers to train on.
    """

    recipe: Recipe
    staged: StagedModel
    prepared: Mapping[str, Prepared]
    info: DataInfo
    run: RunFolder
    devices: Devices = ONE_DEVICE

    @functools.cached_property
    def task(self) -> Task[Any]:
        """The working half of the recipe's task, for this data."""
        return build_task(self.recipe, self.info)

    def adapters(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        """Return a context manager with the stage's LoRA adapters attached to the model."""
        return stage_adapters(self.staged, self.recipe, stage)

    def training_batches(self, stage: Stage, source: StageInput, skip: int = 0) -> tf.data.Dataset:
        """Return endless (x, y, sample weight) batches for a stage, without the first `skip`."""
        train = source.prepared["train"]
        return self.task.batches.training(train, stage, skip)

    def evaluation_batches(self, source: StageInput, split: str) -> tf.data.Dataset:
        """Return the (x, y, ...) batches of a split in stored order."""
        return self.task.batches.evaluation(source.prepared[split])
