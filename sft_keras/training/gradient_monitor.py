"""Numbers that go bad while a stage trains, noticed in the graph at the step where it happens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import LossError
from sft_keras.recipe.stage import Stage

_SETTLED = 20  # steps, before which no norm of a gradient is unusual
_PAST = 0.95  # weight of the past in the usual norm, a mean over about 20 steps
_EXPLODING = 100.0  # times the usual norm


class GradientMonitor:
    """Notes the first step whose loss or gradient was not finite, and the worst gradient.

    The notes are variables of the graph that trains, so that no step has to wait until Python has
    looked at its figures.
    """

    def __init__(self, stage: Stage, rate: Callable[[int], Any]) -> None:
        """`rate` gives the learning rate of a step, counted from 0."""
        self._stage, self._rate = stage, rate
        self._step = tf.Variable(0, dtype=tf.int64)
        self._bad_step = tf.Variable(0, dtype=tf.int64)  # from 1; 0 for none
        self._bad_loss, self._bad_norm = tf.Variable(0.0), tf.Variable(0.0)
        self._usual = tf.Variable(0.0)  # mean of the logarithm of the norm
        self._worst_step, self._worst = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0)

    @property
    def variables(self) -> list[tf.Variable]:
        """All that it has noted, in an order that stays."""
        return [
            *(self._step, self._bad_step, self._bad_loss, self._bad_norm),
            *(self._usual, self._worst_step, self._worst),
        ]

    def observe(self, loss: tf.Tensor, norm: tf.Tensor) -> None:
        """Looks at a step, in a graph.

        Args:
          loss: Of its batch, a scalar.
          norm: Of its gradient, a scalar; NaN or infinite where that is so, unless loss scaling
            takes care of it, and then 0.
        """
        step = self._step.assign_add(1)
        is_good = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        is_first = ~is_good & (self._bad_step == 0)
        self._bad_step.assign(tf.where(is_first, step, self._bad_step))
        self._bad_loss.assign(tf.where(is_first, loss, self._bad_loss))
        self._bad_norm.assign(tf.where(is_first, norm, self._bad_norm))
        is_usable = is_good & (norm > 0.0)
        size = tf.math.log(tf.where(is_usable, norm, 1.0))
        excess = size - self._usual
        is_worst = is_usable & (step > _SETTLED) & (excess > self._worst)
        self._worst.assign(tf.where(is_worst, excess, self._worst))
        self._worst_step.assign(tf.where(is_worst, step, self._worst_step))
        # A plain mean of the first steps, then a moving one.
        share = tf.maximum(1.0 - _PAST, 1.0 / tf.cast(step, tf.float32))
        self._usual.assign_add(tf.where(is_usable, share * excess, 0.0))

    def require_good(self) -> None:
        """Raises a `LossError` that names the first step whose loss or gradient was not finite."""
        step = int(self._bad_step)
        if not step:
            return
        loss = float(self._bad_loss)
        if not math.isfinite(loss):
            raise self.bad("loss", loss, step)
        raise self.bad("norm of the gradient", float(self._bad_norm), step)

    def require_finite(self, what: str, value: float) -> None:
        """Raises a `LossError` if a figure of the weights after the latest step is not finite."""
        if not math.isfinite(value):
            raise self.bad(what, value, int(self._step))

    def bad(self, what: str, value: float, step: int) -> LossError:
        """Returns the error to raise of a step, from 1."""
        name = self._stage.name
        return LossError(
            f"The {what} became {value} in stage {name!r} at step {step} "
            f"(learning rate {self._rate_of(step)}). Try a lower rate or clipping: "
            f"--set=stages.{name}.learning_rate={self._stage.learning_rate / 10:g} or "
            f"--set=stages.{name}.clip_norm=1.0."
        )

    def explosion(self) -> str | None:
        """Returns what to say of the worst gradient, if it was far larger than those before it."""
        times = math.exp(float(self._worst))
        if times < _EXPLODING:
            return None
        step, name = int(self._worst_step), self._stage.name
        return (
            f"The gradient exploded in stage {name!r} at step {step} (learning rate "
            f"{self._rate_of(step)}): its norm was {times:,.0f} times what is usual there. "
            f"Clip it with --set=stages.{name}.clip_norm=1.0, or try a lower rate."
        )

    def _rate_of(self, step: int) -> str:
        return f"{float(np.asarray(self._rate(step - 1))):.2g}"
