"""The recipe section of one training stage. Standard library only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from sft_keras.recipe.optimizers import OPTIMIZERS
from sft_keras.recipe.section import Checks, did_you_mean, section, type_faults

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
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685).

    Beside a kernel W of the pretrained network, which stays as it is, two small matrices train: W
    counts as W + alpha / rank * A B. A begins at random and B at 0, so that a stage begins where
    the network was. At its end the product is added to the kernel: what is saved, served and
    trained in later stages is the plain network.

    Attributes:
      rank: The columns of A and rows of B. (Where a kernel has an axis for each attention head, A
        has it too, and B is shared by the heads, as Keras has it.)
      alpha: The weight of the product is alpha / rank; None for `rank`, which weighs it 1.
      targets: The layers of the unfrozen blocks that get one: those with one of these in their
        name, among Dense, EinsumDense and Embedding layers; "all" for every Dense and EinsumDense.
    """

    rank: int = 8
    alpha: float | None = None
    targets: Literal["all"] | tuple[str, ...] = ("query", "value")

    def faults(self, path: str = "adapter") -> list[str]:
        """Returns what is wrong with these fields, one sentence each; `path` is where they are."""
        checks = Checks(path, self)
        checks.at_least("rank", 1)
        if self.alpha is not None:
            checks.require("alpha", self.alpha > 0, "a number above 0, or none")
        checks.require("targets", bool(self.targets), "'all', or at least one name")
        return checks.found


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a stage is: `epochs` rounds of `steps_per_epoch` batches, each then validated."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Batches in the whole stage."""
        return self.epochs * self.steps_per_epoch


def stage_length(stage: Stage, examples: int, batch_size: int) -> Length:
    """Returns a stage's length on so many training examples.

    A stage given in `steps` is validated about once a pass over the data; where the rounds do not
    come out even, `steps` is rounded up.
    """
    in_a_pass = math.ceil(examples / batch_size)
    if stage.epochs is not None:
        return Length(stage.epochs, in_a_pass)
    rounds = math.ceil(stage.steps / in_a_pass)
    return Length(rounds, math.ceil(stage.steps / rounds))
