"""The recipe: everything one run is told, as frozen dataclasses. Standard library only.

A recipe is checked as a whole by `Recipe.validate`, after all overrides, so that every fault is
listed at once and an override can mend what a file says.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from sft_keras.core.errors import RecipeError, numbered
from sft_keras.recipe.backbone import Backbone
from sft_keras.recipe.data import Data
from sft_keras.recipe.section import section, section_faults, type_faults
from sft_keras.recipe.stage import LoRA, Stage
from sft_keras.recipe.storage import Checkpointing, Store
from sft_keras.recipe.task_config import TaskConfig

__all__ = ["Backbone", "Checkpointing", "Data", "LoRA", "Recipe", "Stage", "Store"]


@section
class Recipe:
    """Everything about one run.

    Attributes:
      task: What is learnt, e.g. `sft_keras.tasks.ImageClassification`; it holds its own settings.
      data: Where the examples come from.
      backbone: The pretrained network.
      stages: What trains when, in order.
      cache: Where what the frozen blocks give for each example is kept, to be computed once and
        not in every epoch: in "memory", or on "disk", where later runs find it; "off" computes it
        anew. "auto" takes what is on disk already, then memory where it fits `data.memory_share`
        of what is free, then at most half of the free disk, if that is faster than computing.
      store: How it is stored, and how many augmented views of it.
      checkpoints: When what a stopped run goes on from is written.
      seed: Of splits, initial weights, order of examples, augmentation and dropout.
      precision: A Keras dtype policy: "float32", "mixed_bfloat16" or "mixed_float16". "auto" is
        "mixed_bfloat16" on GPUs made for it (NVIDIA's from compute capability 8.0 on) and
        "float32" elsewhere.
      trackers: Services that are told the figures of each epoch and of the test, beside
        TensorBoard: "mlflow", "wandb". Each must be installed; its own variables say where it is.
      deterministic: Whether two runs with one seed give bit-identical weights, at some cost in
        speed on accelerators.
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
        """Raises a `RecipeError` that lists every fault of the recipe."""
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
                f"`store.views` is not for {type(self.task).__name__}, whose inputs are drawn anew "
                f"in every epoch. Received: {self.store.views}. Leave it out."
            )
        elif self.store.views is not None and not self.task.augmentation_fingerprint():
            faults.append(
                "`store.views` is for augmented training, and the task changes no input at random. "
                f"Received: {self.store.views}. Leave it out, or set `task.augment`."
            )
        if faults:
            raise RecipeError(numbered("The recipe cannot run.", faults))

    def number_of(self, stage: Stage) -> int:
        """Returns which stage it is, from 0; by its name, since a range test changes its rate."""
        return [each.name for each in self.stages].index(stage.name)

    def _task_faults(self) -> list[str]:
        """Returns which of its inputs the task has no use for."""
        task, faults = type(self.task).__name__, []
        for name, given, taken in (
            ("data.source", self.data.source, self.task.sources),
            ("backbone.preset", self.backbone.preset, self.task.presets),
        ):
            kind = given.partition(":")[0] if isinstance(given, str) else type(given).__name__
            if kind not in taken:
                faults.append(
                    f"`{name}` for {task} must be one of {', '.join(taken)}. Received: {kind!r}."
                )
        return faults
