"""The learning-rate schedule and the optimizer of a stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from sft_keras.core.errors import RecipeError
from sft_keras.models.staged import StagedModel, unfrozen_blocks
from sft_keras.recipe.optimizers import OPTIMIZERS
from sft_keras.recipe.stage import Schedule, Stage

_ONE_CYCLE_WARMUP = 0.3
_ONE_CYCLE_END = 1e-4  # share of the peak


class StageSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then constant, or linear or cosine decay to `end` at `steps`."""

    def __init__(self, peak: float, steps: int, warmup_steps: int, shape: str, end: float) -> None:
        self.peak, self.steps, self.warmup_steps = peak, steps, warmup_steps
        self.shape, self.end = shape, end

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step, counted in batches from 0."""
        ops = keras.ops
        step = ops.cast(step, "float32")
        # The first batch has a rate above 0, and the last of the warm-up reaches the peak.
        rising = self.peak * (step + 1.0) / max(self.warmup_steps, 1)
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        done = ops.clip(done, 0.0, 1.0)
        if self.shape == "constant":
            share = ops.ones_like(done)
        elif self.shape == "linear":
            share = 1.0 - done
        else:
            share = 0.5 * (1.0 + ops.cos(math.pi * done))
        falling = self.end + (self.peak - self.end) * share
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
            "end": self.end,
        }


def peak_learning_rate(stage: Stage) -> float:
    """Return the stage's learning rate as a number.

    Raises:
      ValueError: If it is still "auto", which a range test has to replace before the stage trains.
    """
    if isinstance(stage.learning_rate, str):
        raise ValueError(
            "`learning_rate` must be a number when a stage trains. "
            f"Received: {stage.learning_rate!r} in stage {stage.name!r}; run `range_test` first."
        )
    return stage.learning_rate


def build_schedule(
    learning_rate: float, schedule: Schedule, warmup: float, steps: int
) -> StageSchedule:
    """Return the schedule of a stage of `steps` batches, see `Stage.schedule`."""
    if schedule == "one_cycle":
        warmup, end = warmup or _ONE_CYCLE_WARMUP, learning_rate * _ONE_CYCLE_END
        return StageSchedule(learning_rate, steps, round(warmup * steps), "cosine", end)
    return StageSchedule(learning_rate, steps, round(warmup * steps), schedule, 0.0)


def build_optimizer(stage: Stage, staged: StagedModel, steps: int) -> keras.optimizers.Optimizer:
    """Return a new optimizer for a stage of `steps` batches.

    Raises:
      RecipeError: If Keras rejects the arguments.
    """
    optimizer_class = _classes()[stage.optimizer]
    peak = peak_learning_rate(stage)
    arguments: dict[str, Any] = {
        **stage.optimizer_arguments,
        "learning_rate": build_schedule(peak, stage.schedule, stage.warmup, steps),
        "weight_decay": stage.weight_decay or None,
        "global_clipnorm": stage.clip_norm,
        "use_ema": stage.ema is not None,
        "gradient_accumulation_steps": stage.accumulate if stage.accumulate > 1 else None,
    }
    if stage.ema is not None:
        arguments["ema_momentum"] = stage.ema
    if stage.layer_decay < 1.0:
        multipliers = layer_multipliers(staged, stage)
        optimizer_class = _with_layer_decay(optimizer_class, multipliers, stage.weight_decay)
        # Weight decay scales with the layer's rate, so `LayerDecay` applies it itself.
        arguments["weight_decay"] = 0.0 if stage.optimizer == "adamw" else None
    try:
        optimizer = optimizer_class(**arguments)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"Keras rejects the optimizer of stage {stage.name!r} ({stage.optimizer!r}): {error}"
        ) from error
    if stage.weight_decay:
        undecayed = [v for v in staged.model.trainable_variables if not _is_decayed(v)]
        optimizer.exclude_from_weight_decay(var_list=undecayed)
    return optimizer


def _classes() -> dict[str, type[keras.optimizers.Optimizer]]:
    classes = {name.lower(): value for name, value in vars(keras.optimizers).items()}
    return {name: classes[name] for name in OPTIMIZERS}


def _is_decayed(variable: Any) -> bool:
    """Whether weight decay applies: to kernels and embeddings, not to biases and norm scales."""
    return len(variable.shape) > 1


def layer_multipliers(staged: StagedModel, stage: Stage) -> dict[int, float]:
    """Return {id(variable): factor on its learning rate}: 1 in the head, lower with each block.

    Keyed by identity, since a layer of the head and one of the backbone may share a name.
    """
    factors = {id(variable): 1.0 for variable in staged.head.variables}
    for depth, block in enumerate(reversed(unfrozen_blocks(staged, stage)), 1):
        for layer in block.layers:
            factors.update((id(v), stage.layer_decay**depth) for v in layer.variables)
    return factors


def _with_layer_decay(
    base: type[keras.optimizers.Optimizer], factors: Mapping[int, float], weight_decay: float
) -> type[keras.optimizers.Optimizer]:
    """Return `base` with each variable's learning rate and weight decay scaled by its factor.

    Keras' MultiOptimizer does this with one optimizer per rate, and models compiled with it
    cannot be reloaded.
    """

    class LayerDecay(base):
        def build(self, variables: Sequence[keras.Variable]) -> None:
            # `update_step` may receive a bare tensor, so factors are looked up by position.
            self._factors = [factors[id(variable)] for variable in variables]
            super().build(variables)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = learning_rate * self._factors[self._get_variable_index(variable)]
            if weight_decay and _is_decayed(variable):
                variable.assign_sub(variable * keras.ops.cast(weight_decay * rate, variable.dtype))
            super().update_step(gradient, variable, rate)

    LayerDecay.__name__ = base.__name__
    return LayerDecay
