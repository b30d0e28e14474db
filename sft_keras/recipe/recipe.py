"""The recipe: the whole configuration of a run, as frozen dataclasses. Standard library only.

`Recipe.validate` checks a recipe as a whole, after all overrides, so that it lists every fault at
once and an override can fix a fault of the file.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.data import Data
from sft_keras.recipe.section import did_you_mean, section, section_faults, type_faults
from sft_keras.recipe.stage import LoRA, Stage
from sft_keras.recipe.storage import Checkpointing, Store
from sft_keras.recipe.task_config import TaskConfig

__all__ = ["Backbone", "Checkpointing", "Data", "LoRA", "Recipe", "Stage", "Store"]


@section
class Recipe:
    """The whole configuration of one run.

    Attributes:
      task: The task with its settings, e.g. `sft_keras.tasks.ImageClassification()`.
      data: The labelled examples.
      backbone: The pretrained network.
      stages: The training stages, in order.
      cache: Where the output of the frozen blocks is cached, so that it is computed once and not
        in every epoch: in "memory"; on "disk", where later runs reuse it; or "off". "auto" uses
        features that are on disk already, else memory if they fit `data.memory_share` of the free
        memory, else up to half of the free disk space where reading is faster than computing.
      store: How cached features are stored, and the number of augmented views.
      checkpoints: How often checkpoints are written.
      seed: Seed of splits, initial weights, shuffling, augmentation and dropout.
      precision: A Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16". "auto" is
        "mixed_bfloat16" on GPUs with hardware support (NVIDIA compute capability 8.0 and higher)
        and "float32" elsewhere.
      deterministic: Whether two runs with the same seed produce bit-identical weights, at some
        cost in speed on accelerators.
      trackers: Experiment trackers that receive the metrics of each epoch and of the test split,
        in addition to TensorBoard: "mlflow", "wandb". They must be installed, and are configured
        by their own environment variables.

    Example:
      >>> from sft_keras import Backbone, Data, Recipe, Stage
      >>> from sft_keras.tasks import ImageClassification
      >>> recipe = Recipe(
      ...     task=ImageClassification(),
      ...     data=Data(source="folder:flowers"),
      ...     backbone=Backbone(preset="keras:mobilenet_v2"),
      ...     stages=(
      ...         Stage(name="head", epochs=5, learning_rate=1e-3),
      ...         Stage(name="top", epochs=5, learning_rate=1e-5, unfreeze=2),
      ...     ),
      ... )
      >>> recipe.validate()
      >>> recipe.cache
      'auto'
    """

    task: TaskConfig
    data: Data
    backbone: Backbone
    stages: tuple[Stage, ...]
    cache: Literal["auto", "memory", "disk", "off"] = "auto"
    store: Store = dataclasses.field(default_factory=Store)
    checkpoints: Checkpointing = dataclasses.field(default_factory=Checkpointing)
    seed: int = 0
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    deterministic: bool = True
    trackers: tuple[Literal["mlflow", "wandb"], ...] = ()

    def validate(self) -> None:
        """Check every field.

        Raises:
          RecipeError: Listing all faults.
        """
        faults = [*section_faults("data", self.data), *section_faults("backbone", self.backbone)]
        for name in ("store", "checkpoints"):
            faults += section_faults(name, getattr(self, name))
        faults += type_faults("", self)
        if isinstance(self.seed, int) and not 0 <= self.seed < 2**32:
            faults.append(f"`seed` must be from 0 to {2**32 - 1}. Received: {self.seed}.")
        if not self.stages:
            faults.append("`stages` must hold at least one Stage. Received: none.")
        names = [stage.name for stage in self.stages]
        for name in sorted({name for name in names if names.count(name) > 1}):
            faults.append(
                f"`stages` must have different names. Received: {name!r} {names.count(name)} times."
            )
        for stage in self.stages:
            faults += section_faults(f"stages.{stage.name}", stage) or self.task.stage_faults(stage)
        faults += section_faults("task", self.task)
        faults += self._task_faults()
        if self.store.views is not None and not self.task.supports_views:
            faults.append(
                f"`store.views` is not supported by {type(self.task).__name__}, which draws inputs "
                f"anew in every epoch. Received: {self.store.views}. Remove it."
            )
        elif self.store.views is not None and not self.task.augmentation_fingerprint():
            faults.append(
                "`store.views` requires augmentation, and the task has none. "
                f"Received: {self.store.views}. Remove it, or set `task.augment`."
            )
        if faults:
            raise RecipeError(numbered("The recipe cannot run.", faults))

    def number_of(self, stage: Stage) -> int:
        """Return the index of a stage, by its name: a range test changes its learning rate."""
        return [other.name for other in self.stages].index(stage.name)

    def _task_faults(self) -> list[str]:
        """Return one sentence for each input of a kind that the task does not support."""
        task, faults = type(self.task).__name__, []
        for name, received, supported in (
            ("data.source", self.data.source, self.task.sources),
            ("backbone.preset", self.backbone.preset, self.task.presets),
        ):
            kind = (
                received.partition(":")[0] if isinstance(received, str) else type(received).__name__
            )
            if kind not in supported:
                faults.append(
                    f"`{name}` for {task} must be one of {', '.join(supported)}. "
                    f"Received: {kind!r}.{did_you_mean(kind, supported)}"
                )
        return faults
