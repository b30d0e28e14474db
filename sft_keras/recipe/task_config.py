"""The configuration half of a task: what a recipe checks and prints. Standard library only.

The working half, `sft_keras.tasks.base.Task`, derives from it and may import TensorFlow.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from sft_keras.recipe.stage import Stage


class TaskConfig(abc.ABC):
    """What is learnt: from raw examples to batches, from a backbone to a model, to figures.

    Attributes:
      sources: The kinds of `data.source` it can read, e.g. "csv"; classes by their names.
      presets: The kinds of `backbone.preset` it can use, e.g. "hub".
      asked_about: What `sft_keras.predict` takes, e.g. "FILE".
      pipeline_tag: What Hugging Face's hub calls it, for the model card.
      watched: What `Stage.monitor` may be.
      unused: Fields of `Stage` that the task has no use for, which must be as they are by default.
      scored_at_start: Whether the model is validated before it trains at all, as one that can do
        something already; if no epoch of the first stage is better, that is kept.
      read_by_service: The kinds of `data.source` that workers of a tf.data service can read.
      takes_views: Whether inputs changed at random may be stored, see `Store.views`.
    """

    sources: ClassVar[tuple[str, ...]]
    presets: ClassVar[tuple[str, ...]]
    predict_argument: ClassVar[str]
    pipeline_tag: ClassVar[str]
    monitors: ClassVar[tuple[str, ...]] = ("val_loss", "val_accuracy")
    unsupported_fields: ClassVar[tuple[str, ...]] = ()
    evaluates_before_training: ClassVar[bool] = False
    service_sources: ClassVar[tuple[str, ...]] = ()
    supports_views: ClassVar[bool] = True

    @abc.abstractmethod
    def faults(self) -> list[str]:
        """Returns what is wrong with the task's fields, one sentence each."""

    def stage_faults(self, stage: Stage) -> list[str]:
        """Returns what a stage asks for that the task does not have, one sentence each."""
        task, faults = type(self).__name__, []
        if stage.monitor not in self.monitors:
            faults.append(
                f"`stages.{stage.name}.monitor` for {task} must be one of "
                f"{', '.join(self.monitors)}. Received: {stage.monitor!r}."
            )
        usual = {field.name: field.default for field in dataclasses.fields(stage)}
        return faults + [
            f"`stages.{stage.name}.{name}` is of no use to {task}. "
            f"Received: {getattr(stage, name)!r}. Leave it out."
            for name in self.unsupported_fields
            if getattr(stage, name) != usual[name]
        ]

    @abc.abstractmethod
    def smoke_recipe(self, recipe: Any) -> Any:
        """Returns the recipe on synthetic data and random weights, made to end within seconds."""

    def augmentation_fingerprint(self) -> str:
        """Returns all that decides on how training inputs are changed at random; "" for not."""
        return ""
