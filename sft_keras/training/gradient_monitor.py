"""Non-finite losses and exploding gradients, detected in the graph at the step they occur in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from sft_keras.core.errors import LossError
from sft_keras.recipe.stage import Stage
from sft_keras.training.optimizers import peak_learning_rate

_WARMUP_STEPS = 20  # no gradient norm counts as unusual before
_MOMENTUM = 0.95  # of the usual norm, a moving mean over about 20 steps
_EXPLODING = 100.0  # times the usual norm


class GradientMonitor:
    """Records the first step with a non-finite loss or gradient, and the largest gradient.

    It records into variables of the training graph, so that no step waits for Python to read its
    loss.
    """

    def __init__(self, stage: Stage, schedule: Callable[[int], Any]) -> None:
        """Create the variables.

        Args:
          stage: The stage that trains.
          schedule: Returns the learning rate of a step, counted from 0.
        """
        self._stage, self._schedule = stage, schedule
        self._step = tf.Variable(0, dtype=tf.int64)
        self._bad_step = tf.Variable(0, dtype=tf.int64)  # from 1; 0 for none
        self._bad_loss, self._bad_norm = tf.Variable(0.0), tf.Variable(0.0)
        self._usual = tf.Variable(0.0)  # mean of the logarithm of the norm
        self._worst_step, self._worst = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)

    @property
    def variables(self) -> list[tf.Variable]:
        """The recorded state, in a fixed order."""
        return [
            *(self._step, self._bad_step, self._bad_loss, self._bad_norm),
            *(self._usual, self._worst_step, self._worst),
        ]

    def observe(self, loss: tf.Tensor, norm: tf.Tensor) -> None:
        """Record a step. Called in the training graph.

        Args:
          loss: Loss of the batch, float32 scalar.
          norm: Norm of the gradient before clipping, float32 scalar. It may be NaN or infinite; 0
            for a step that loss scaling skips.
        """
        step = self._step.assign_add(1)
        is_good = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        is_first = ~is_good & (self._bad_step == 0)
        self._bad_step.assign(tf.where(is_first, step, self._bad_step))
        self._bad_loss.assign(tf.where(is_first, loss, self._bad_loss))
        self._bad_norm.assign(tf.where(is_first, norm, self._bad_norm))
        is_usable = is_good & (norm > 0.0)
        log_norm = tf.math.log(tf.where(is_usable, norm, 1.0))
        excess = log_norm - self._usual
        is_worst = is_usable & (step > _WARMUP_STEPS) & (excess > self._worst)
        self._worst.assign(tf.where(is_worst, excess, self._worst))
        self._worst_step.assign(tf.where(is_worst, step, self._worst_step))
        # A plain mean of the first steps, then a moving one.
        share = tf.maximum(1.0 - _MOMENTUM, 1.0 / tf.cast(step, tf.float32))
        self._usual.assign_add(tf.where(is_usable, share * excess, 0.0))

    def require_good(self) -> None:
        """Raise a `LossError` for the first step with a non-finite loss or gradient, if any."""
        step = int(self._bad_step)
        if not step:
            return
        loss = float(self._bad_loss)
        if not math.isfinite(loss):
            raise self._error("loss", loss, step)
        raise self._error("gradient norm", float(self._bad_norm), step)

    def require_finite(self, what: str, value: float) -> None:
        """Raise a `LossError` if a value computed after the latest step is not finite."""
        if not math.isfinite(value):
            raise self._error(what, value, int(self._step))

    def _error(self, what: str, value: float, step: int) -> LossError:
        """Return the error for a step, counted from 1."""
        name, lower = self._stage.name, peak_learning_rate(self._stage) / 10
        return LossError(
            f"The {what} became {value} in stage {name!r} at step {step} "
            f"(learning rate {self.learning_rate(step):.2g}). Try a lower rate or clipping: "
            f"--set=stages.{name}.learning_rate={lower:g} or "
            f"--set=stages.{name}.clip_norm=1.0."
        )

    def explosion(self) -> str | None:
        """Return a warning if a gradient was far larger than those before it, else None."""
        times = math.exp(float(self._worst))
        if times < _EXPLODING:
            return None
        step, name = int(self._worst_step), self._stage.name
        return (
            f"The gradient exploded in stage {name!r} at step {step} (learning rate "
            f"{self.learning_rate(step):.2g}): its norm was {times:,.0f} times the usual one. "
            f"Clip it with --set=stages.{name}.clip_norm=1.0, or try a lower rate."
        )

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1."""
        return float(self._schedule(step - 1))
