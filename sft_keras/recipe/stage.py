"""The recipe sections of a training stage. Standard library only."""

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
    """One training stage: which part of the model trains, how, and for how long.

    Attributes:
      name: The stage's name in overrides, the log and the report.
      epochs: Passes over the training split; give either this or `steps`.
      steps: Batches to train on, instead of `epochs`. The stage is then validated about once per
        pass over the training split, at equal intervals; if `steps` is not a multiple of their
        number, it is rounded up.
      learning_rate: Peak of the schedule. "auto" finds one before the stage by a learning-rate
        range test (Smith 2017, arXiv:1506.01186, section 3.3), which takes about 100 steps.
      schedule: Learning rate after the warm-up: "constant"; "linear" or "cosine" decay to 0; or
        "one_cycle" (Smith 2018, arXiv:1803.09820), which rises during the warm-up, or for 30 % of
        the stage if `warmup` is 0, and then falls to a ten-thousandth of the peak.
      warmup: Share of the stage during which the learning rate rises linearly from 0.
      optimizer: Name of a Keras optimizer: "adam", "adamw", "sgd", "rmsprop", ...
      optimizer_arguments: Additional arguments of the optimizer, e.g. {"momentum": 0.9}.
      unfreeze: Number of blocks to train, counted from the top; "all" for the whole backbone.
      adapter: Low-rank adapters to train in the unfrozen blocks instead of their weights; None to
        train the weights. With adapters, `layer_decay`, `weight_decay`, `l1`, `l2` and `ema` apply
        to them.
      train_batch_norm: Whether BatchNormalization layers in unfrozen blocks train as well. By
        default they stay in inference mode: small batches from a new domain would ruin their
        statistics.
      layer_decay: Factor on the learning rate per block, from the head downwards (Clark et al.
        2020, ELECTRA, arXiv:2003.10555, section 3.1); 1.0 for the same rate everywhere.
      clip_norm: Maximum global norm of the gradients; None for no clipping.
      weight_decay: Decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) of the
        trainable weights except biases and normalization parameters.
      l1, l2: Penalties on the trainable kernels.
      label_smoothing: Share of the target distributed evenly over the classes (Szegedy et al.
        2016, arXiv:1512.00567, section 7).
      class_weights: "balanced" (inverse frequency, as in scikit-learn), {class name: weight}, or
        None.
      ema: Momentum of an exponential moving average of the weights, updated after each batch; the
        averaged weights are then validated and kept. None for no averaging.
      accumulate: Number of batches whose gradients are summed for one update.
      patience: Early stopping: epochs without improvement of `monitor` after which the stage
        ends; None to train to the end.
      monitor: Validation metric that selects the best epoch, whose weights are the result of the
        stage: "val_loss", or "val_" with the name of one of `TaskConfig.training_metrics`.

    Example:
      >>> from sft_keras import Stage
      >>> stage = Stage(name="top", epochs=5, learning_rate=1e-5, unfreeze=2, patience=2)
      >>> stage.schedule, stage.monitor
      ('constant', 'val_loss')
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
    monitor: str = "val_loss"

    def faults(self) -> list[str]:
        """Return one sentence for each field whose value is wrong."""
        checks = Checks(f"stages.{self.name}", self)
        if (self.epochs is None) == (self.steps is None):
            checks.faults.append(
                f"`stages.{self.name}` must set either `epochs` or `steps`. "
                f"Received: epochs={self.epochs}, steps={self.steps}."
            )
        for name in ("epochs", "steps", "patience"):
            if getattr(self, name) is not None:
                checks.at_least(name, 1)
        checks.at_least("accumulate", 1)
        rate = self.learning_rate
        checks.require(
            "learning_rate", rate == "auto" or rate > 0, "a number greater than 0, or 'auto'"
        )
        checks.require("warmup", 0.0 <= self.warmup < 1.0, "at least 0 and less than 1")
        checks.require(
            "label_smoothing", 0.0 <= self.label_smoothing < 1.0, "at least 0 and less than 1"
        )
        checks.require("layer_decay", 0.0 < self.layer_decay <= 1.0, "greater than 0 and at most 1")
        for name in ("weight_decay", "l1", "l2"):
            checks.at_least(name, 0)
        if self.clip_norm is not None:
            checks.require("clip_norm", self.clip_norm > 0, "a number greater than 0, or none")
        if self.ema is not None:
            checks.require("ema", 0.0 < self.ema < 1.0, "greater than 0 and less than 1, or none")
        if self.unfreeze != "all":
            whole = isinstance(self.unfreeze, int) and self.unfreeze >= 0
            checks.require("unfreeze", whole, "a number of blocks, at least 0, or 'all'")
        return [*checks.faults, *self._adapter_faults(), *self._optimizer_faults()]

    def _adapter_faults(self) -> list[str]:
        if self.adapter is None:
            return []
        path = f"stages.{self.name}"
        inner = f"{path}.adapter"
        faults = type_faults(inner, self.adapter) or self.adapter.faults(inner)
        if self.unfreeze == 0:
            faults.append(
                f"`{inner}` requires unfrozen blocks, and there are none. Received: unfreeze=0. "
                f"Set `{path}.unfreeze`, or remove the adapter."
            )
        if self.train_batch_norm:
            faults.append(
                f"`{path}.train_batch_norm` must be false where adapters train instead of the "
                "blocks' weights. Received: True."
            )
        return faults

    def _optimizer_faults(self) -> list[str]:
        checks = Checks(f"stages.{self.name}", self)
        checks.one_of("optimizer", tuple(OPTIMIZERS))
        supported = OPTIMIZERS.get(self.optimizer, tuple(self.optimizer_arguments))
        checks.faults += [
            f"`stages.{self.name}.optimizer_arguments` of {self.optimizer!r} must be among "
            f"{', '.join(supported)}. Received: {name!r}.{did_you_mean(name, supported)}"
            for name in self.optimizer_arguments
            if name not in supported
        ]
        if self.optimizer == "adamw" and not self.weight_decay:
            checks.faults.append(
                f"`stages.{self.name}.weight_decay` must be greater than 0 for 'adamw', which is "
                "Adam with weight decay. Received: 0. Set it (0.01 is common), or use 'adam'."
            )
        return checks.faults


@section
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685).

    A pretrained kernel W stays frozen, and two small matrices A and B train beside it: the layer
    computes with W + alpha / rank * A B. A is initialized at random and B with zeros, so the stage
    starts from the pretrained network. At the end of the stage the product is merged into the
    kernel, so the saved and served model, and that of later stages, has no additional layers.

    Attributes:
      rank: Number of columns of A and rows of B. (Where a kernel has an axis for attention heads,
        so has A, and the heads share B, as in Keras.)
      alpha: The product is scaled by alpha / rank; None for alpha = rank, a scale of 1.
      targets: Layers of the unfrozen blocks that get adapters: Dense, EinsumDense and Embedding
        layers whose names contain one of these strings; "all" for every Dense and EinsumDense.

    Example:
      >>> from sft_keras import LoRA, Stage
      >>> adapter = LoRA(rank=16, targets=("query", "key", "value"))
      >>> Stage(name="top", epochs=3, learning_rate=1e-4, unfreeze="all", adapter=adapter).adapter
      LoRA(rank=16, alpha=None, targets=('query', 'key', 'value'))
    """

    rank: int = 8
    alpha: float | None = None
    targets: Literal["all"] | tuple[str, ...] = ("query", "value")

    def faults(self, path: str = "adapter") -> list[str]:
        """Return one sentence for each wrong field; `path` is that of the section."""
        checks = Checks(path, self)
        checks.at_least("rank", 1)
        if self.alpha is not None:
            checks.require("alpha", self.alpha > 0, "a number greater than 0, or none")
        checks.require("targets", bool(self.targets), "'all', or at least one name")
        return checks.faults


@dataclasses.dataclass(frozen=True)
class Length:
    """The length of a stage: `epochs` intervals of `steps_per_epoch` batches.

    Each interval ends with a validation. For a stage given in `steps` it need not be one pass over
    the training split.
    """

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Batches of the whole stage."""
        return self.epochs * self.steps_per_epoch


def stage_length(stage: Stage, examples: int, batch_size: int) -> Length:
    """Return the length of a stage.

    Args:
      stage: A valid stage. If it is given in `steps`, it is validated about once per pass over the
        training split, and `steps` is rounded up to a multiple of the number of validations.
      examples: Number of training examples.
      batch_size: Examples per batch.
    """
    steps_per_pass = math.ceil(examples / batch_size)
    if stage.epochs is not None:
        return Length(stage.epochs, steps_per_pass)
    if stage.steps is None:
        raise ValueError(f"Stage {stage.name!r} must set `epochs` or `steps`.")
    validations = math.ceil(stage.steps / steps_per_pass)
    return Length(validations, math.ceil(stage.steps / validations))
