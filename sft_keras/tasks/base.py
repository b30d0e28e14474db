"""The working half of a task, between its configuration and the rest of the package.

A task has two halves. Its configuration, a `TaskConfig`, is the frozen dataclass that a recipe
holds; it imports no TensorFlow. `build_task` makes the working half from a recipe, which holds the
recipe and the facts about the data as fields and does its work in parts (`sft_keras.tasks.parts`):

    open_data -> build_backbone -> preprocessor.preprocess -> build_model
    per stage:   objective.check, loss, metrics, output_monitors; batches.training
    per split:   batches.evaluation -> evaluator.predict -> evaluate -> summary
    at the end:  evaluator.temperature, report_examples; save_artifacts;
                 exporter.signatures, samples
"""

from __future__ import annotations

import abc
import importlib
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

from sft_keras.backbones.blocks import BuiltBackbone
from sft_keras.data.examples import DataInfo, Splits
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.task_config import TaskConfig
from sft_keras.tasks.parts import Batches, Evaluator, Exporter, Objective, Preprocessor

Config_co = TypeVar("Config_co", bound=TaskConfig, covariant=True)


class Task(abc.ABC, Generic[Config_co]):
    """Everything that depends on the kind of prediction, from raw examples to served signatures.

    Subclasses implement the abstract methods, and the parts as `functools.cached_property`.

    Attributes:
      recipe: The recipe.
      config: Its task section, the configuration of this task.
    """

    def __init__(self, recipe: Recipe, info: DataInfo | None = None) -> None:
        """Hold the recipe; nothing is read or built yet.

        Args:
          recipe: A recipe with a task of this kind.
          info: Facts about the data; None before it is opened.
        """
        self.recipe = recipe
        self.config: Config_co = cast("Config_co", recipe.task)
        self._info = info

    @property
    def info(self) -> DataInfo:
        """Facts about the data.

        Raises:
          RuntimeError: If the data is not opened yet.
        """
        if self._info is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the facts about the data. Open it first: "
                "task.with_info(task.open_data(seed).info)."
            )
        return self._info

    def with_info(self, info: DataInfo) -> Self:
        """Return the task for opened data."""
        return type(self)(self.recipe, info)

    @abc.abstractmethod
    def open_data(self, seed: int) -> Splits:
        """List the examples and create the splits that the source lacks, without decoding.

        Args:
          seed: Seed of the random splits.

        Raises:
          DataError: Listing every fault that shows without decoding.
        """

    @abc.abstractmethod
    def build_backbone(self) -> BuiltBackbone:
        """Build the recipe's backbone, load its weights and split it into blocks.

        Raises:
          BackboneError: If it is unknown, cannot be split into blocks, or its weights are missing.
        """

    def backbone_fingerprint(self) -> str:
        """Return the task's fields that `build_backbone` depends on, as part of cache keys.

        The recipe's `backbone` section is included elsewhere.
        """
        return ""

    @abc.abstractmethod
    def build_model(self, backbone: BuiltBackbone) -> StagedModel:
        """Return the backbone with a new head that fits the targets described by `info`."""

    @property
    @abc.abstractmethod
    def preprocessor(self) -> Preprocessor:
        """Turns listed examples into model inputs; does not need `info`."""

    @property
    @abc.abstractmethod
    def objective(self) -> Objective:
        """Loss, metrics and monitors of training."""

    @property
    @abc.abstractmethod
    def batches(self) -> Batches:
        """Turns preprocessed splits into batches."""

    @property
    @abc.abstractmethod
    def evaluator(self) -> Evaluator:
        """Turns outputs into metrics and report examples."""

    @property
    @abc.abstractmethod
    def exporter(self) -> Exporter:
        """Defines the exported SavedModel."""

    def save_artifacts(self, staged: StagedModel, folder: Path) -> list[str]:
        """Save task-specific artifacts in the run folder; return one log line per artifact."""
        return []

    def check_against_data(self) -> None:
        """Check the stages of the recipe against the data.

        Raises:
          RecipeError: If a stage does not fit, see `Objective.check`.
        """
        for stage in self.recipe.stages:
            self.objective.check(stage)


def build_task(recipe: Recipe, info: DataInfo | None = None) -> Task[Any]:
    """Build the working half of a recipe's task.

    Args:
      recipe: The recipe.
      info: Facts about the data; None before it is opened.

    Raises:
      TypeError: If `TaskConfig.implementation` of the recipe's task is no `Task`.

    Example:
      >>> from sft_keras import load_recipe
      >>> task = build_task(load_recipe("quickstart").recipe)
      >>> task.preprocessor.describe_input()
      'images of 96 by 96 pixels (height by width)'
    """
    named = recipe.task.implementation
    if isinstance(named, str):
        module, _, name = named.partition(":")
        named = getattr(importlib.import_module(module), name)
    if not (isinstance(named, type) and issubclass(named, Task)):
        raise TypeError(
            f"`{type(recipe.task).__name__}.implementation` must be a subclass of "
            f"sft_keras.tasks.base.Task, or its 'module:name'. Received: {named!r}."
        )
    return named(recipe, info)
