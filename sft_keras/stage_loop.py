"""The loop of one stage: steps, a validation after each round of them, and where it stands."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.best_weights import BestWeights
from sft_keras.keeper import Keeper
from sft_keras.recipe import Stage
from sft_keras.snapshot import Snapshot
from sft_keras.steps import NOTHING, Steps
from sft_keras.watch import Watch

_TICKS_EVERY = 0.2  # seconds

Note = Callable[[int, Mapping[str, float]], None]
"""Takes the figures of an epoch, with the steps of the stage so far."""


Left = Callable[[float, int], str]
"""Takes the seconds of a step and how many the stage still has; returns the time left, in words."""


def of_the_stage(seconds: float, steps: int) -> str:
    """A `Left` that knows of no other stages."""
    return f"{clock_time(seconds * steps)} left of the stage"


def clock_time(seconds: float) -> str:
    """Returns e.g. "2:05", or "1:02:05" from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def unnoted(step: int, figures: Mapping[str, float]) -> None:
    """A `Note` for nobody."""


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a stage is: `epochs` rounds of `steps_per_epoch` batches, each then validated."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Batches in the whole stage."""
        return self.epochs * self.steps_per_epoch


@dataclasses.dataclass
class Position:
    """How far a stage is.

    Attributes:
      step: Batches it has trained on.
      epoch: Epochs it has finished, with their validation.
      trained: The training figures of an epoch that is still to be validated; else None.
      start: The validation figures of before the first step; None where they are not asked for.
      history: A value an epoch for each figure.
      warnings: What a person should know of how it went.
      seconds: How long it took.
    """

    step: int = 0
    epoch: int = 0
    trained: dict[str, float] | None = None
    start: dict[str, float] | None = None
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class StageLoop:
    """Runs the steps and validations of a stage; can be left after any step and gone on from.

    Attributes:
      position: How far it is.
    """

    def __init__(
        self,
        stage: Stage,
        length: Length,
        model: keras.Model,
        *,
        steps: Steps,
        watch: Watch,
        best: BestWeights,
        training: tf.data.Dataset,
        validation: tf.data.Dataset,
        rate: Callable[[int], Any],
        say: Callable[[str], None],
        tick: Callable[[str], None],
        note: Note = unnoted,
        left: Left = of_the_stage,
    ) -> None:
        """Takes what a stage is made of.

        Args:
          stage: The recipe's.
          length: How long it is.
          model: The stage's, compiled.
          steps: Of the model.
          watch: What `steps` shows every step.
          best: Of the variables that the stage may move.
          training: The batches to train on, from where the loop stands.
          validation: The batches to validate on.
          rate: The learning rate of a step, counted from 0.
          say: Takes a line to show and log.
          tick: Takes a line to show for a moment, on a terminal.
          note: Takes the figures of each epoch.
          left: Says how long it goes on.
        """
        self.position = Position()
        self._stage, self._length, self._steps, self._watch = stage, length, steps, watch
        self._best, self._training, self._validation = best, training, validation
        self._rate, self._say, self._tick, self._note = rate, say, tick, note
        self._time_left = left
        self._ema = None
        if stage.ema is not None:
            self._ema = keras.callbacks.SwapEMAWeights()
            self._ema.set_model(model)
        self._began = self._ticked = time.perf_counter()
        self._traced: tuple[float, int] | None = None

    def run(self, has_start: bool, keeper: Keeper | None = None) -> None:
        """Runs what is left of the stage.

        Args:
          has_start: Whether what it starts with is validated too, as epoch 0.
          keeper: Takes the checkpoints.

        Raises:
          LossError: If a loss or a gradient is not finite.
          KeyboardInterrupt: If `keeper` says so.
        """
        self._began, position = time.perf_counter(), self.position
        with contextlib.nullcontext() if keeper is None else keeper.within_stage():
            if has_start and position.start is None:
                position.start = self._steps.validate(self._validation, *_listening(keeper))
                self._watch.require_finite("validation loss", position.start["loss"])
                self._best.look(0, position.start)
            batches = iter(self._training)
            while position.epoch < self._length.epochs and not self._best.is_patience_out:
                self._train(batches, keeper)
                self._validate(keeper)
        position.seconds = self._seconds()
        if (warning := self._watch.explosion()) is not None:
            self._warn(warning)

    def snapshot(self) -> Snapshot:
        """Returns where the loop stands, with all that it goes on from but the model's weights.

        Raises:
          LossError: If a loss or a gradient was not finite: nothing should go on from there.
        """
        self._watch.require_good()
        facts = {**dataclasses.asdict(self.position), "seconds": self._seconds()}
        state = {f"state/{number:05d}": each for number, each in enumerate(self._steps.state())}
        kept = {f"best/{path}": value for path, value in self._best.kept.items()}
        return Snapshot(
            {"position": facts, "best": self._best.as_json()},
            {**state, **kept},
        )

    def go_on(self, snapshot: Snapshot) -> None:
        """Takes up what `snapshot` gave."""
        self.position = Position(**snapshot.facts["position"])
        state = _below("state/", snapshot.arrays)
        self._steps.take_up([state[number] for number in sorted(state)])
        self._best.go_on(snapshot.facts["best"], _below("best/", snapshot.arrays))

    def _train(self, batches: Iterator[Any], keeper: Keeper | None) -> None:
        """Trains to the end of the epoch."""
        position, in_epoch = self.position, self._length.steps_per_epoch
        first, last = position.epoch * in_epoch, (position.epoch + 1) * in_epoch
        if position.step == first:
            self._steps.reset()
        self._epoch_began, before = time.perf_counter(), self._steps.examples
        while position.step < last:
            asked = self._steps.train(next(batches), NOTHING if keeper is None else keeper.asks())
            position.step += 1
            if self._traced is None:  # the first step, which takes longer than any other
                self._traced = time.perf_counter(), position.step
            if time.perf_counter() - self._ticked > _TICKS_EVERY:
                if self._steps.is_alone:  # else all look at the same step, at the end of the epoch
                    self._watch.require_good()
                self._ticked = time.perf_counter()
                passed = self._ticked - self._epoch_began
                self._tick(  # a narrow terminal cuts off the end
                    f"{self._head()}  step {position.step - first}/{in_epoch}  {self._left()}  "
                    f"{_shown(self._steps.own_figures())}  "
                    f"{(self._steps.examples - before) / passed:,.0f} examples/s  "
                    f"rate {float(self._rate(position.step - 1)):.2g}"
                )
            if keeper is not None:
                keeper.after_step(self.snapshot, asked)
        self._watch.require_good()

    def _validate(self, keeper: Keeper | None) -> None:
        """Validates the epoch, and finishes it."""
        position = self.position
        if position.trained is None:
            position.trained = self._steps.figures()
        try:
            with self._averages():
                figures = self._steps.validate(self._validation, *_listening(keeper))
                self._watch.require_finite("validation loss", figures["loss"])
                self._best.look(position.epoch + 1, figures)
        except KeyboardInterrupt:
            if keeper is not None:  # else there is nobody to have asked for it
                keeper.write(self.snapshot())
            raise
        shown = {**position.trained, **{f"val_{name}": each for name, each in figures.items()}}
        rate = {"learning_rate": float(self._rate(position.step - 1))}
        for name, value in {**shown, **rate}.items():
            position.history.setdefault(name, []).append(value)
        self._note(position.step, {**shown, **rate})
        seconds = time.perf_counter() - self._epoch_began
        self._say(f"{self._head()}  {_shown(shown)}  {seconds:.1f} s")
        if position.epoch == 0:
            where = (
                f"after the first epoch of stage {self._stage.name!r} (step {position.step}, "
                f"learning rate {rate['learning_rate']:.2g})"
            )
            for warning in self._steps.warnings():
                self._warn(warning.format(where=where))
        position.epoch, position.trained = position.epoch + 1, None

    @contextlib.contextmanager
    def _averages(self) -> Iterator[None]:
        """Has the moving averages in the model within the block, if the stage takes them."""
        if self._ema is None:
            yield
            return
        self._ema.on_test_begin()
        try:
            yield
        finally:
            self._ema.on_test_end()

    def _warn(self, warning: str) -> None:
        self.position.warnings.append(warning)
        self._say(f"warning  {warning}")

    def _seconds(self) -> float:
        return self.position.seconds + time.perf_counter() - self._began

    def _left(self) -> str:
        """Returns how long it goes on at most, by how long it took so far."""
        since, step = self._traced
        done = self.position.step - step
        if not done:
            return "tracing"
        seconds = (time.perf_counter() - since) / done
        return self._time_left(seconds, self._length.steps - self.position.step)

    def _head(self) -> str:
        return f"{self._stage.name}  epoch {self.position.epoch + 1}/{self._length.epochs}"


def _listening(keeper: Keeper | None) -> tuple[Callable[..., Any], ...]:
    return () if keeper is None else (keeper.check, keeper.asks)


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _shown(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
