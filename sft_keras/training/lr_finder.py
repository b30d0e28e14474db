"""The learning-rate finder: a range test that chooses a stage's rate before it trains.

Smith 2015, arXiv:1506.01186, section 3.3: the model trains for a few steps while the rate rises
from one too low to change anything to one at which training diverges. The curve of the loss over
the rate shows where the loss begins to fall and where it stops falling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.backbones.layers import iter_layers
from sft_keras.core.errors import LossError
from sft_keras.core.reporter import Reporter
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Stage
from sft_keras.training.prepare import prepare_stage

# Momentum of the smoothed loss: a mean over about seven steps, half a decade of rates.
_SMOOTHING = 0.85
_DIVERGED = 4.0  # times the lowest smoothed loss, at which the test ends
_BASELINE_SHARE = 0.2  # of the steps, the first ones, whose rates hardly change the loss
_FALL_BEGINS = 0.1  # share of the whole fall
_PROGRESS_INTERVAL = 0.2  # seconds between two progress texts
# A fall counts if it exceeds both: noise alone does so in at most one test in fifteen.
_STANDARD_ERRORS = 3.0
_SHARE_OF_LOSS = 0.01
_WITHIN_FALL = (
    "in the middle between {0}, where the loss began to fall, and {1}, where it was lowest"
)
_BELOW_RISE = "a tenth of {1}, from which on the loss rises; no fall before it exceeded the noise"


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """The curve of a range test and the rate chosen from it.

    Attributes:
      rates: The learning rate of each step taken, rising.
      losses: The training loss of each step's batch before the update; finite.
      smoothed: Exponential moving average of the losses, bias-corrected (Kingma & Ba 2014,
        arXiv:1412.6980, section 3).
      bounds: The rates where the loss began to fall and where it was lowest; or, if no fall
        exceeded the noise, the chosen rate and the one where the loss began to rise.
      chosen: The learning rate to train with, within the bounds.
      rule: How it was chosen, in words.
      ended: Why the test ended, in words.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    bounds: tuple[float, float]
    chosen: float
    rule: str
    ended: str

    def as_json(self) -> dict[str, Any]:
        """Return the test as plain values."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


@dataclasses.dataclass(frozen=True)
class RateSweep:
    """The rates that a range test tries, rising by the same factor in each step.

    Attributes:
      lowest: The first step's rate: so low that a fifth of the steps hardly change the loss.
      highest: The last step's rate, above `lowest`.
      steps: Number of steps, 20 or more, since with fewer the noise decides.
    """

    lowest: float = 1e-7
    highest: float = 10.0
    steps: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest or self.steps < 20:
            raise ValueError(
                "A range test needs 0 < lowest < highest and at least 20 steps. "
                f"Received: lowest={self.lowest}, highest={self.highest}, steps={self.steps}."
            )

    def schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """Return the rates as a Keras schedule."""
        return keras.optimizers.schedules.ExponentialDecay(
            self.lowest, decay_steps=self.steps - 1, decay_rate=self.highest / self.lowest
        )


def range_test(
    staged: StagedModel,
    stage: Stage,
    *,
    loss: keras.losses.Loss,
    training: tf.data.Dataset,
    reporter: Reporter,
    from_boundary: bool = False,
    sweep: RateSweep | None = None,
) -> RangeTest:
    """Find a stage's learning rate by training it for a few steps at rising rates.

    The stage trains with its own optimizer, but without schedule, warm-up, moving average and
    accumulation. The test ends early if the smoothed loss exceeds 4 times its minimum or a loss is
    not finite. In any case the model is restored bit for bit: weights, random states, `trainable`
    flags and penalties.

    The test finds the two bounds of Smith 2015, section 3.3: where the loss begins to fall (a tenth
    of its fall is done) and where it stops falling (its minimum). The rate chosen is their
    geometric mean. Other rules were tried and were further off on noisy curves: the steepest
    descent follows the noise, and fastai's "valley" starts too low where a curve has none.

    Args:
      staged: The model.
      stage: The stage to find a rate for. Its `learning_rate`, `schedule`, `warmup`, `ema` and
        `accumulate` are ignored.
      loss: Loss between the batches' y and the logits.
      training: Endless (x, y, sample weight) batches; a small data set may repeat itself.
      reporter: Receives progress.
      from_boundary: Whether the batches' x is cached features rather than raw inputs.
      sweep: The rates to try; None for `RateSweep()`.

    Raises:
      LossError: If the loss neither fell nor rose by more than its noise.
    """
    sweep = sweep or RateSweep()
    plan = dataclasses.replace(
        stage, learning_rate=sweep.lowest, schedule="constant", warmup=0.0, ema=None, accumulate=1
    )
    recorder = _Recorder(stage.name, sweep.steps, reporter)
    with _restored(staged):
        model = prepare_stage(staged, plan, sweep.steps, loss, [], from_boundary)
        model.optimizer.learning_rate = sweep.schedule()
        model.fit(
            training, steps_per_epoch=sweep.steps, callbacks=[recorder], shuffle=False, verbose=0
        )
    bounds, rule = _bounds(stage, recorder, sweep.steps)
    return RangeTest(
        rates=tuple(recorder.rates),
        losses=tuple(recorder.losses),
        smoothed=tuple(recorder.smoothed),
        bounds=bounds,
        # Two digits: more would not be significant, and users may want to type the rate.
        chosen=bounds[0] if rule == _BELOW_RISE else _two_digits(math.sqrt(math.prod(bounds))),
        rule=rule.format(*(f"{bound:.2g}" for bound in bounds)),
        ended=recorder.ended,
    )


def _bounds(stage: Stage, recorder: _Recorder, steps: int) -> tuple[tuple[float, float], str]:
    """Return the bounds and the rule that chooses a rate from them.

    Raises:
      LossError: If the loss neither fell nor rose.
    """
    fall = find_fall(recorder.losses, recorder.smoothed, steps)
    if fall is not None:
        return (recorder.rates[fall[0]], recorder.rates[fall[1]]), _WITHIN_FALL
    rise = find_rise(recorder.losses, recorder.smoothed, steps)
    if rise is not None:
        rate = recorder.rates[rise]
        return (_two_digits(rate / 10), rate), _BELOW_RISE
    raise _no_rate_error(stage, recorder, steps)


def find_fall(
    losses: Sequence[float], smoothed: Sequence[float], steps: int
) -> tuple[int, int] | None:
    """Return the steps, from 0, where the loss began to fall and where it was lowest.

    Args:
      losses: The loss of each step taken.
      smoothed: The smoothed losses.
      steps: Number of planned steps; the first fifth of them is the baseline, which gives the
        initial loss and its noise.

    Returns:
      The step from which on more than a tenth of the fall is done, and that of the lowest smoothed
      loss. None if the loss did not fall by more than 3 standard errors and by more than 1%.
    """
    first = _baseline_steps(steps)
    if len(losses) <= first:
        return None
    start, noise = _start_and_noise(losses[:first])
    lowest = first + int(np.argmin(smoothed[first:]))
    fall = start - smoothed[lowest]
    if not fall > noise:
        return None
    begins = lowest
    while begins > 0 and smoothed[begins] < start - _FALL_BEGINS * fall:
        begins -= 1
    return begins, lowest


def _baseline_steps(steps: int) -> int:
    """Return how many steps are the baseline, which gives the initial loss and its noise."""
    return round(_BASELINE_SHARE * steps)


def _start_and_noise(losses: Sequence[float]) -> tuple[float, float]:
    """Return the initial loss and how far the smoothed loss may be from it by noise alone."""
    start = float(np.mean(losses))
    # The variances of a mean of n losses and of their exponential moving average.
    variance = 1 / len(losses) + (1 - _SMOOTHING) / (1 + _SMOOTHING)
    error = float(np.std(losses, ddof=1)) * math.sqrt(variance)
    return start, max(_STANDARD_ERRORS * error, _SHARE_OF_LOSS * abs(start))


def find_rise(losses: Sequence[float], smoothed: Sequence[float], steps: int) -> int | None:
    """Return the step, from 0, from which on the loss exceeds its start; None if it never does.

    Args:
      losses: The loss of each step taken.
      smoothed: The smoothed losses.
      steps: Number of planned steps, see `find_fall`.
    """
    first = _baseline_steps(steps)
    if len(losses) <= first:
        return None
    start, noise = _start_and_noise(losses[:first])
    last = len(smoothed) - 1
    if not smoothed[last] > start + noise:
        return None
    rise = last
    while rise > first and smoothed[rise - 1] > start:
        rise -= 1
    return rise


def _no_rate_error(stage: Stage, recorder: _Recorder, steps: int) -> LossError:
    """Return the error for a loss that neither fell nor rose."""
    failure = f"The learning-rate range test of stage {stage.name!r} found no rate to train with"
    flag = f"--set=stages.{stage.name}.learning_rate="
    first = _baseline_steps(steps)
    if len(recorder.losses) <= first:
        return LossError(
            f"{failure}: it ended at step {len(recorder.losses) + 1} of {steps}, at a rate that "
            f"should hardly change the loss, since {recorder.ended}. Check the data for values "
            f"that are not finite, or set a rate yourself: {flag}NUMBER."
        )
    start, noise = _start_and_noise(recorder.losses[:first])
    return LossError(
        f"{failure}. Expected: a loss that falls, or at high rates rises, by more than its noise, "
        f"{noise:.2g}. Received: a loss that starts at {start:.4g} and stays between "
        f"{min(recorder.smoothed[first:]):.4g} and {max(recorder.smoothed[first:]):.4g} for rates "
        f"from {recorder.rates[0]:.2g} to {recorder.rates[-1]:.2g}. Check that the loss depends on "
        f"what the stage trains, or set a rate yourself, e.g. {flag}0.001."
    )


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")


@contextlib.contextmanager
def _restored(staged: StagedModel) -> Iterator[None]:
    """Restore variables, flags and penalties when the block ends, even if it fails."""
    variables = staged.model.variables
    values = [np.array(variable.numpy()) for variable in variables]
    settings = [(variable.trainable, variable.regularizer) for variable in variables]
    layers = [(layer, layer.trainable) for layer in iter_layers(staged.model)]
    try:
        yield
    finally:
        # Outer layers come first in the list, since they pass their flag on to inner ones.
        for layer, trainable in layers:
            layer.trainable = trainable
        for variable, value, (trainable, regularizer) in zip(variables, values, settings):
            variable.trainable, variable.regularizer = trainable, regularizer
            variable.assign(value)


class _Recorder(keras.callbacks.Callback):
    """Records each step's rate and loss, smooths the losses, and ends the test.

    Attributes:
      rates, losses, smoothed: As in `RangeTest`, without steps whose loss is not finite.
      ended: Why the test ended, in words.
    """

    def __init__(self, name: str, steps: int, reporter: Reporter) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.ended = ""
        self._name, self._steps, self._reporter = name, steps, reporter
        self._baseline = _baseline_steps(steps)
        self._rate, self._average, self._last_progress = 0.0, 0.0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Record the step's rate."""
        # Read from the optimizer, which does not count steps that loss scaling skips.
        self._rate = float(self.model.optimizer.learning_rate)
        # Otherwise the logged loss would be the mean of all steps so far.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record the step's loss, and end the test if training diverges."""
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            self._end(f"the loss was not finite at a rate of {self._rate:.2g}")
            return
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * loss
        self.rates.append(self._rate)
        self.losses.append(loss)
        self.smoothed.append(self._average / (1 - _SMOOTHING ** len(self.losses)))
        # The average of the first few batches is noisy, and a lucky batch would end the test.
        settled = self.smoothed[self._baseline :]
        lowest = min(settled, default=math.inf)
        # Four times the lowest, written so that it holds for losses below 0 too.
        if settled and settled[-1] - lowest > (_DIVERGED - 1) * abs(lowest):
            self._end(f"the smoothed loss rose to {settled[-1]:.3g} from its lowest, {lowest:.3g}")
        elif len(self.losses) == self._steps:
            self._end(f"it reached the highest rate, {self._rate:.2g}")
        now = time.perf_counter()
        if now - self._last_progress > _PROGRESS_INTERVAL:
            self._last_progress = now
            self._reporter.progress(
                f"{self._name}  learning-rate range test  step {batch + 1}/{self._steps}  "
                f"rate {self._rate:.2g}  loss {loss:.4f}"
            )

    def _end(self, why: str) -> None:
        self.ended, self.model.stop_training = why, True
