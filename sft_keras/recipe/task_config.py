"""The configuration of a task, which a recipe checks and prints. Standard library only.

The working half, `sft_keras.tasks.base.Task`, derives from it and may import TensorFlow.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

from sft_keras.recipe.stage import Stage


class TaskConfig(abc.ABC):
    """Configuration of a task; a subclass is a frozen dataclass with the task's settings.

    Attributes:
      sources: Supported kinds of `data.source`, e.g. "csv"; in-memory sources by class name.
      presets: Supported kinds of `backbone.preset`, e.g. "hub".
      predict_argument: Placeholder for the argument of `sft_keras.predict`, e.g. "FILE".
      pipeline_tag: The task's name on the Hugging Face Hub, for the model card.
      monitors: Metrics that `Stage.monitor` may name.
      unsupported_fields: Fields of `Stage` that the task ignores; they must keep their defaults.
      evaluates_before_training: Whether the untrained model is validated first because it already
        performs the task; its weights are kept if no epoch of the first stage is better.
      service_sources: Kinds of `data.source` that workers of a tf.data service can read.
      supports_views: Whether augmented inputs may be cached, see `Store.views`.
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
        """Return one sentence for each field of the task whose value is wrong."""

    def stage_faults(self, stage: Stage) -> list[str]:
        """Return one sentence for each field of a stage that the task does not support."""
        task, faults = type(self).__name__, []
        if stage.monitor not in self.monitors:
            faults.append(
                f"`stages.{stage.name}.monitor` for {task} must be one of "
                f"{', '.join(self.monitors)}. Received: {stage.monitor!r}."
            )
        defaults = {field.name: field.default for field in dataclasses.fields(stage)}
        return faults + [
            f"`stages.{stage.name}.{name}` is not supported by {task}. "
            f"Received: {getattr(stage, name)!r}. Remove it."
            for name in self.unsupported_fields
            if getattr(stage, name) != defaults[name]
        ]

    @abc.abstractmethod
    def smoke_recipe(self, recipe: Any) -> Any:
        """Return the recipe reduced to synthetic data and random weights, to run within seconds."""

    def augmentation_fingerprint(self) -> str:
        """Return a fingerprint of the augmentation configuration; "" without augmentation."""
        return ""
