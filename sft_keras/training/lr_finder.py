"""The learning-rate range test: which rate a stage should train with, found before it trains.

Smith 2015, arXiv:1506.01186, section 3.3: the model trains for a few steps while the rate rises
from one that moves nothing to one at which training breaks down. The loss over the rate shows where
it begins to fall and where it stops falling.
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

# Weight of the past in the smoothed loss: a mean over about seven steps, half a decade of rates.
_SMOOTHING = 0.85
_DIVERGED = 4.0  # times the lowest smoothed loss: the test ends
_AT_THE_START = 0.2  # share of the steps, the first ones, whose rates move next to nothing
_FALL_BEGINS = 0.1  # share of the whole fall
# A fall counts if it is larger than these: noise alone gets there in at most one test of fifteen.
_STANDARD_ERRORS = 3.0
_SHARE_OF_LOSS = 0.01
_WITHIN_FALL = (
    "in the middle between {0}, where the loss began to fall, and {1}, where it was lowest"
)
_BELOW_RISE = (
    "a tenth of {1}, from which on the loss rises; no fall before stood out from the noise"
)


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What a range test saw and chose.

    Attributes:
      rates: The learning rate of each step, rising; as many as steps were taken.
      losses: The training loss of each step's batch, before the step changed the weights; finite.
      smoothed: Their exponential moving average, corrected for its start at 0 (Kingma & Ba 2014,
        arXiv:1412.6980, section 3).
      bounds: The rates where the loss began to fall and where it was lowest; or, if no fall
        stood out, the rate chosen and the one where the loss began to rise.
      chosen: The rate to train with, within the bounds.
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
        """Returns the test as plain values."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def range_test(
    staged: StagedModel,
    stage: Stage,
    *,
    loss: keras.losses.Loss,
    training: tf.data.Dataset,
    reporter: Reporter,
    from_boundary: bool = False,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
) -> RangeTest:
    """Finds a stage's learning rate by training it for a few steps at rates that rise.

    The stage trains with its own optimizer, but without schedule, warm-up, moving average and
    accumulation. The rate rises by the same factor each step. The test ends early if the smoothed
    loss is above 4 times its lowest, or a loss is not finite. Whatever happens, the model is left
    as it was, bit for bit: weights, the states of its random seeds, flags and penalties.

    The test finds the two bounds of Smith 2015, section 3.3: where the loss begins to fall (a tenth
    of its fall is done) and where it stops falling (it is lowest). The rate chosen is their
    geometric mean. Other rules were tried and were further off on noisy curves: the steepest
    descent follows the noise, and fastai's "valley" starts too low where a curve has none.

    Args:
      staged: The model.
      stage: What trains, and how; its `learning_rate`, `schedule`, `warmup`, `ema` and
        `accumulate` play no part.
      loss: Between the batches' y and the logits.
      training: (x, y, sample weight) batches without end; a small data set may repeat itself.
      reporter: Receives progress.
      from_boundary: Whether the batches' x is what the frozen blocks give, and not raw features.
      lowest: The first step's rate; so low that a fifth of the steps hardly move the loss.
      highest: The last step's rate, above `lowest`.
      steps: How many; 20 or more, since below that noise decides.

    Raises:
      LossError: If the loss neither fell nor rose by more than its noise.
      ValueError: If the rates or the number of steps are not as said above.
    """
    if not 0 < lowest < highest or steps < 20:
        raise ValueError(
            "A range test needs 0 < lowest < highest and at least 20 steps. "
            f"Received: lowest={lowest}, highest={highest}, steps={steps}."
        )
    plan = dataclasses.replace(
        stage, learning_rate=lowest, schedule="constant", warmup=0.0, ema=None, accumulate=1
    )
    recorder = _Recorder(stage.name, steps, reporter)
    with _left_as_it_was(staged):
        model = prepare_stage(staged, plan, steps, loss, [], from_boundary)
        model.optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(
            lowest, decay_steps=steps - 1, decay_rate=highest / lowest
        )
        model.fit(
            training,
            steps_per_epoch=steps,
            callbacks=[recorder],
            shuffle=False,
            verbose=0,
        )
    bounds, rule = _bounds(stage, recorder, steps)
    return RangeTest(
        rates=tuple(recorder.rates),
        losses=tuple(recorder.losses),
        smoothed=tuple(recorder.smoothed),
        bounds=bounds,
        # Two digits: more would mean nothing, and a person may want to type it.
        chosen=bounds[0] if rule == _BELOW_RISE else _two_digits(math.sqrt(math.prod(bounds))),
        rule=rule.format(*(f"{bound:.2g}" for bound in bounds)),
        ended=recorder.ended,
    )


def _bounds(stage: Stage, recorder: _Recorder, steps: int) -> tuple[tuple[float, float], str]:
    """Returns the bounds and the rule by which a rate is chosen of them.

    Raises:
      LossError: If there are none.
    """
    fall = find_fall(recorder.losses, recorder.smoothed, steps)
    if fall is not None:
        return (recorder.rates[fall[0]], recorder.rates[fall[1]]), _WITHIN_FALL
    rise = find_rise(recorder.losses, recorder.smoothed, steps)
    if rise is not None:
        rate = recorder.rates[rise]
        return (_two_digits(rate / 10), rate), _BELOW_RISE
    raise _told_nothing(stage, recorder, steps)


def find_fall(
    losses: Sequence[float], smoothed: Sequence[float], steps: int
) -> tuple[int, int] | None:
    """Returns the steps, from 0, where the loss began to fall and where it was lowest.

    Args:
      losses: The loss of each step taken.
      smoothed: The same, smoothed.
      steps: How many steps were planned; the first fifth of them says where the loss started and
        how noisy it is.

    Returns:
      Where a tenth of the fall was done for good, and where the smoothed loss was lowest. None if
      the loss did not fall by more than 3 standard errors and more than a hundredth of itself.
    """
    first = _first_steps(steps)
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


def _first_steps(steps: int) -> int:
    """Returns how many of a test's steps say where the loss started."""
    return round(_AT_THE_START * steps)


def _start_and_noise(losses: Sequence[float]) -> tuple[float, float]:
    """Returns the loss that a test started from, and how far from it a smoothed loss may be."""
    start = float(np.mean(losses))
    # The variances of a mean of n losses and of an exponential moving average of them.
    variance = 1 / len(losses) + (1 - _SMOOTHING) / (1 + _SMOOTHING)
    error = float(np.std(losses, ddof=1)) * math.sqrt(variance)
    return start, max(_STANDARD_ERRORS * error, _SHARE_OF_LOSS * abs(start))


def find_rise(losses: Sequence[float], smoothed: Sequence[float], steps: int) -> int | None:
    """Returns the step, from 0, from which on the loss is above its start; None if it never is.

    Args:
      losses: The loss of each step taken.
      smoothed: The same, smoothed.
      steps: How many steps were planned, as for `find_fall`.
    """
    first = _first_steps(steps)
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


def _told_nothing(stage: Stage, recorder: _Recorder, steps: int) -> LossError:
    """Returns the error to raise where the loss neither fell nor rose."""
    found = f"The learning-rate range test of stage {stage.name!r} found no rate to train with"
    number = f"--set=stages.{stage.name}.learning_rate="
    first = _first_steps(steps)
    if len(recorder.losses) <= first:
        return LossError(
            f"{found}: it ended at step {len(recorder.losses) + 1} of {steps}, at a rate that "
            f"should hardly move the loss, since {recorder.ended}. Look for values in the data "
            f"that are not finite, or give a number yourself: {number}NUMBER."
        )
    start, noise = _start_and_noise(recorder.losses[:first])
    return LossError(
        f"{found}. Expected: a loss that falls, or at high rates rises, by more than its noise, "
        f"{noise:.2g}. Received: one that starts at {start:.4g} and lies between "
        f"{min(recorder.smoothed[first:]):.4g} and {max(recorder.smoothed[first:]):.4g} for rates "
        f"from {recorder.rates[0]:.2g} to {recorder.rates[-1]:.2g}. Look whether what the stage "
        f"trains reaches the loss, or give a number yourself, e.g. {number}0.001."
    )


def _two_digits(rate: float) -> float:
    return float(f"{rate:.2g}")


@contextlib.contextmanager
def _left_as_it_was(staged: StagedModel) -> Iterator[None]:
    """Puts variables, flags and penalties back at the end of the block, even if it fails."""
    variables = staged.model.variables
    values = [np.array(variable.numpy()) for variable in variables]
    marks = [(variable.trainable, variable.regularizer) for variable in variables]
    layers = [(layer, layer.trainable) for layer in iter_layers(staged.model)]
    try:
        yield
    finally:
        # Outer layers come first in the list: a flag of theirs is passed on to the inner ones.
        for layer, trainable in layers:
            layer.trainable = trainable
        for variable, value, (trainable, regularizer) in zip(variables, values, marks):
            variable.trainable, variable.regularizer = trainable, regularizer
            variable.assign(value)


class _Recorder(keras.callbacks.Callback):
    """Notes each step's rate and loss, smooths the losses, and ends the test.

    Attributes:
      rates, losses, smoothed: See `RangeTest`. A step whose loss is not finite is left out.
      ended: Why the test ended, in words.
    """

    def __init__(self, name: str, steps: int, reporter: Reporter) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.ended = ""
        self._name, self._steps, self._reporter = name, steps, reporter
        self._first = _first_steps(steps)
        self._rate, self._average, self._ticked = 0.0, 0.0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notes the step's rate."""
        # Read from the optimizer, which does not count steps that loss scaling leaves out.
        self._rate = float(self.model.optimizer.learning_rate)
        # Else the loss would be the mean of all steps so far.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the step's loss and ends the test if it has gone bad."""
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            self._end(f"the loss was not finite at a rate of {self._rate:.2g}")
            return
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * loss
        self.rates.append(self._rate)
        self.losses.append(loss)
        self.smoothed.append(self._average / (1 - _SMOOTHING ** len(self.losses)))
        # At the start the average is of a few batches, and a lucky one would end the test.
        settled = self.smoothed[self._first :]
        lowest = min(settled, default=math.inf)
        # Four times the lowest; said so that a loss that may be below 0 can be tested too.
        if settled and settled[-1] - lowest > (_DIVERGED - 1) * abs(lowest):
            self._end(f"the smoothed loss rose to {settled[-1]:.3g} from its lowest, {lowest:.3g}")
        elif len(self.losses) == self._steps:
            self._end(f"it reached the highest rate, {self._rate:.2g}")
        now = time.perf_counter()
        if now - self._ticked > 0.2:
            self._ticked = now
            self._reporter.progress(
                f"{self._name}  learning-rate range test  step {batch + 1}/{self._steps}  "
                f"rate {self._rate:.2g}  loss {loss:.4f}"
            )

    def _end(self, why: str) -> None:
        self.ended, self.model.stop_training = why, True
