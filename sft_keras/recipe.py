"""The recipe: everything one run is told, as frozen dataclasses. Standard library only.

A recipe is checked as a whole by `Recipe.validate`, after all overrides, so that every fault is
listed at once and an override can mend what a file says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sft_keras.errors import RecipeError, numbered
from sft_keras.optimizer_table import OPTIMIZERS
from sft_keras.recipe_adapters import LoRA
from sft_keras.recipe_checks import Checks, did_you_mean, section, section_faults, type_faults
from sft_keras.recipe_inputs import Backbone, Data
from sft_keras.recipe_storage import Checkpointing, Store

if TYPE_CHECKING:
    from sft_keras.tasks.base import Task

__all__ = ["Backbone", "Checkpointing", "Data", "LoRA", "Recipe", "Stage", "Store"]

Schedule = Literal["constant", "linear", "cosine", "one_cycle"]


@section
class Stage:
    """One stretch of training with one choice of what trains.

    Attributes:
      name: How overrides, the log and the report call the stage.
      epochs: Passes over the training split; give this or `steps`.
      steps: Batches to train on, instead of `epochs`; validated about once a pass, and rounded up
        where the rounds do not come out even.
      learning_rate: The peak of the schedule; "auto" finds one by a learning-rate range test
        (Smith 2017, arXiv:1506.01186, section 3.3) before the stage, which costs some 100 steps.
      schedule: How the rate runs after warm-up: "constant", "linear" or "cosine" down to 0, or
        "one_cycle" (Smith 2018, arXiv:1803.09820: up for the warm-up, 30 % of the stage if that
        is 0, then down to a ten-thousandth).
      warmup: Share of the stage in which the rate climbs linearly from 0.
      optimizer: The name of a Keras optimizer: "adam", "adamw", "sgd", "rmsprop", ...
      optimizer_arguments: Its further arguments, e.g. {"momentum": 0.9}.
      unfreeze: Blocks trained, counted from the top; "all" for the whole backbone.
      adapter: Low-rank adapters to train in the unfrozen blocks instead of their own weights; None
        for the weights. Layer and weight decay, penalties and averages are then the adapters'.
      train_batch_norm: Whether BatchNormalization in unfrozen blocks trains too. By default it
        stays in inference mode: small batches of a new domain would wreck its statistics.
      layer_decay: Factor on the learning rate per block, going down from the head (Clark et al.
        2020, ELECTRA, arXiv:2003.10555, section 3.1); 1.0 is the same rate everywhere.
      clip_norm: Largest global norm of the gradients; None for no clipping.
      weight_decay: Decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) on what
        trains, biases and normalisation left out.
      l1, l2: Penalties on the kernels that train.
      label_smoothing: Share of the target spread evenly over the classes (Szegedy et al. 2016,
        arXiv:1512.00567, section 7).
      class_weights: "balanced" (inverse frequency, as scikit-learn has it), {class name: weight},
        or None.
      ema: Momentum of the moving average of the weights, taken after each batch; the average is
        then what is validated and kept. None for none.
      accumulate: Batches whose gradients are summed up for one update.
      patience: Epochs without improvement of `monitor` after which the stage stops; None for
        never.
      monitor: The validation figure that says which epoch was best. The best epoch's weights
        are the stage's result.
    """

    name: str
    epochs: int | None = None
    steps: int | None = None
    learning_rate: float | Literal["auto"]
    schedule: Schedule = "constant"
    warmup: float = 0.0
    optimizer: str = "adam"
    optimizer_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unfreeze: int | Literal["all"] = 0
    adapter: LoRA | None = None
    train_batch_norm: bool = False
    layer_decay: float = 1.0
    clip_norm: float | None = None
    weight_decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    ema: float | None = None
    accumulate: int = 1
    patience: int | None = None
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks(f"stages.{self.name}", self)
        if (self.epochs is None) == (self.steps is None):
            checks.found.append(
                f"`stages.{self.name}` needs either `epochs` or `steps`. "
                f"Received: epochs={self.epochs}, steps={self.steps}."
            )
        for name in ("epochs", "steps", "patience"):
            if getattr(self, name) is not None:
                checks.at_least(name, 1)
        checks.at_least("accumulate", 1)
        rate = self.learning_rate
        checks.require("learning_rate", rate == "auto" or rate > 0, "a number above 0, or 'auto'")
        checks.require("warmup", 0.0 <= self.warmup < 1.0, "a share, 0 or more and below 1")
        checks.require(
            "label_smoothing", 0.0 <= self.label_smoothing < 1.0, "0 or more and below 1"
        )
        checks.require("layer_decay", 0.0 < self.layer_decay <= 1.0, "above 0 and at most 1")
        for name in ("weight_decay", "l1", "l2"):
            checks.at_least(name, 0)
        if self.clip_norm is not None:
            checks.require("clip_norm", self.clip_norm > 0, "a number above 0, or none")
        if self.ema is not None:
            checks.require("ema", 0.0 < self.ema < 1.0, "a momentum above 0 and below 1, or none")
        if self.unfreeze != "all":
            whole = isinstance(self.unfreeze, int) and self.unfreeze >= 0
            checks.require("unfreeze", whole, "a number of blocks, 0 or more, or 'all'")
        return [*checks.found, *self._adapter_faults(), *self._optimizer_faults()]

    def _adapter_faults(self) -> list[str]:
        if self.adapter is None:
            return []
        path = f"stages.{self.name}"
        inner = f"{path}.adapter"
        faults = type_faults(inner, self.adapter) or self.adapter.faults(inner)
        if self.unfreeze == 0:
            faults.append(
                f"`{inner}` is for unfrozen blocks, and there are none. Received: unfreeze=0. "
                f"Set `{path}.unfreeze`, or leave the adapter out."
            )
        if self.train_batch_norm:
            faults.append(
                f"`{path}.train_batch_norm` must be false where adapters train in place of the "
                "blocks' own weights. Received: True."
            )
        return faults

    def _optimizer_faults(self) -> list[str]:
        checks = Checks(f"stages.{self.name}", self)
        checks.one_of("optimizer", tuple(OPTIMIZERS))
        taken = OPTIMIZERS.get(self.optimizer, tuple(self.optimizer_arguments))
        checks.found += [
            f"`stages.{self.name}.optimizer_arguments` of {self.optimizer!r} takes "
            f"{', '.join(taken)}. Received: {name!r}.{did_you_mean(name, taken)}"
            for name in self.optimizer_arguments
            if name not in taken
        ]
        if self.optimizer == "adamw" and not self.weight_decay:
            checks.found.append(
                f"`stages.{self.name}.weight_decay` must be above 0 for 'adamw', which is Adam with"
                " weight decay. Received: 0. Set it (0.01 is common), or take 'adam'."
            )
        return checks.found


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

    task: Task
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
        if self.store.views is not None and not self.task.takes_views:
            faults.append(
                f"`store.views` is not for {type(self.task).__name__}, whose inputs are drawn anew "
                f"in every epoch. Received: {self.store.views}. Leave it out."
            )
        elif self.store.views is not None and not self.task.drawn_at_random():
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
