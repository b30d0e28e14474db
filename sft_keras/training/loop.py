"""The loop of one stage: steps, a validation after each round of them, and where it stands."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from sft_keras.backbones.layers import count_parameters
from sft_keras.core.errors import LossError
from sft_keras.core.reporter import Reporter
from sft_keras.core.snapshot import Snapshot
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.evaluation.output_monitors import OutputMonitor
from sft_keras.models.lora import layers_to_adapt
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.stage import Length, Stage
from sft_keras.training.audit import Audit, audit_stage, fingerprints, require_same_weights
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.early_stopping import EarlyStopping
from sft_keras.training.freezing import may_move, trained_batch_norms
from sft_keras.training.gradient_monitor import GradientMonitor
from sft_keras.training.optimizers import build_schedule
from sft_keras.training.prepare import clear_penalties, prepare_stage
from sft_keras.training.step import NOTHING, Steps

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
        watch: GradientMonitor,
        best: EarlyStopping,
        training: tf.data.Dataset,
        validation: tf.data.Dataset,
        rate: Callable[[int], Any],
        reporter: Reporter,
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
          reporter: Receives log lines and progress.
          note: Takes the figures of each epoch.
          left: Says how long it goes on.
        """
        self.position = Position()
        self._stage, self._length, self._steps, self._watch = stage, length, steps, watch
        self._best, self._training, self._validation = best, training, validation
        self._rate, self._reporter, self._note = rate, reporter, note
        self._time_left = left
        self._ema = None
        if stage.ema is not None:
            self._ema = keras.callbacks.SwapEMAWeights()
            self._ema.set_model(model)
        self._began = self._ticked = time.perf_counter()
        self._traced: tuple[float, int] | None = None

    def run(self, has_start: bool, checkpointer: Checkpointer | None = None) -> None:
        """Runs what is left of the stage.

        Args:
          has_start: Whether what it starts with is validated too, as epoch 0.
          keeper: Takes the checkpoints.

        Raises:
          LossError: If a loss or a gradient is not finite.
          KeyboardInterrupt: If `checkpointer` says so.
        """
        self._began, position = time.perf_counter(), self.position
        with contextlib.nullcontext() if checkpointer is None else checkpointer.within_stage():
            if has_start and position.start is None:
                position.start = self._steps.validate(self._validation, *_listening(checkpointer))
                self._watch.require_finite("validation loss", position.start["loss"])
                self._best.look(0, position.start)
            batches = iter(self._training)
            while position.epoch < self._length.epochs and not self._best.is_patience_out:
                self._train(batches, checkpointer)
                self._validate(checkpointer)
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

    def _train(self, batches: Iterator[Any], checkpointer: Checkpointer | None) -> None:
        """Trains to the end of the epoch."""
        position, in_epoch = self.position, self._length.steps_per_epoch
        first, last = position.epoch * in_epoch, (position.epoch + 1) * in_epoch
        if position.step == first:
            self._steps.reset()
        self._epoch_began, before = time.perf_counter(), self._steps.examples
        while position.step < last:
            asked = self._steps.train(
                next(batches), NOTHING if checkpointer is None else checkpointer.asks()
            )
            position.step += 1
            if self._traced is None:  # the first step, which takes longer than any other
                self._traced = time.perf_counter(), position.step
            if time.perf_counter() - self._ticked > _TICKS_EVERY:
                if self._steps.is_alone:  # else all look at the same step, at the end of the epoch
                    self._watch.require_good()
                self._ticked = time.perf_counter()
                passed = self._ticked - self._epoch_began
                self._reporter.progress(  # a narrow terminal cuts off the end
                    f"{self._head()}  step {position.step - first}/{in_epoch}  {self._left()}  "
                    f"{_shown(self._steps.own_figures())}  "
                    f"{(self._steps.examples - before) / passed:,.0f} examples/s  "
                    f"rate {float(self._rate(position.step - 1)):.2g}"
                )
            if checkpointer is not None:
                checkpointer.after_step(self.snapshot, asked)
        self._watch.require_good()

    def _validate(self, checkpointer: Checkpointer | None) -> None:
        """Validates the epoch, and finishes it."""
        position = self.position
        if position.trained is None:
            position.trained = self._steps.figures()
        try:
            with self._averages():
                figures = self._steps.validate(self._validation, *_listening(checkpointer))
                self._watch.require_finite("validation loss", figures["loss"])
                self._best.look(position.epoch + 1, figures)
        except KeyboardInterrupt:
            if checkpointer is not None:  # else there is nobody to have asked for it
                checkpointer.write(self.snapshot())
            raise
        shown = {**position.trained, **{f"val_{name}": each for name, each in figures.items()}}
        rate = {"learning_rate": float(self._rate(position.step - 1))}
        for name, value in {**shown, **rate}.items():
            position.history.setdefault(name, []).append(value)
        self._note(position.step, {**shown, **rate})
        seconds = time.perf_counter() - self._epoch_began
        self._reporter.line(f"{self._head()}  {_shown(shown)}  {seconds:.1f} s")
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
        self._reporter.line(f"warning  {warning}")

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


def _listening(checkpointer: Checkpointer | None) -> tuple[Callable[..., Any], ...]:
    return () if checkpointer is None else (checkpointer.check, checkpointer.asks)


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _shown(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What a stage did; see the fields' names.

    `history` has a value an epoch for each figure. `adapter` says of which rank the adapters were
    that trained in place of the blocks' own weights, in how many layers; None without. `start` has
    the validation figures of before the stage; None where they were not asked for. `warnings` say
    what a person should know of how it went.
    """

    name: str
    unfreeze: int | Literal["all"]
    learning_rate: float
    epochs_run: int
    steps: int
    seconds: float
    stopped: str
    best_epoch: int
    trainable_parameters: int
    total_parameters: int
    history: dict[str, list[float]]
    audit: Audit
    adapter: dict[str, Any] | None = None
    start: dict[str, float] | None = None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {**dataclasses.asdict(self), "audit": self.audit.as_json()}


def run_stage(
    staged: StagedModel,
    stage: Stage,
    *,
    length: Length,
    loss: keras.losses.Loss,
    metrics: Sequence[keras.metrics.Metric],
    training: Callable[[int], tf.data.Dataset],
    validation: tf.data.Dataset,
    reporter: Reporter,
    has_start: bool,
    from_boundary: bool = False,
    output_monitors: Sequence[OutputMonitor] = (),
    checkpointer: Checkpointer | None = None,
    resumed: Snapshot | None = None,
    devices: Devices = ONE_DEVICE,
    note: Note = unnoted,
    left: Left = of_the_stage,
) -> StageResult:
    """Trains a stage and leaves the best epoch's weights in the model.

    Args:
      staged: The model; changed in place.
      stage: What trains, and how.
      length: From `stage_length`.
      loss: Between the batches' y and the logits.
      metrics: Figures to watch.
      training: From a number of batches to the (x, y, sample weight) batches after so many, as many
        as the stage takes or more.
      validation: (x, y) batches.
      reporter: Receives log lines and progress.
      has_start: Whether the weights at the start are worth keeping, as they are after an earlier
        stage or pretraining: then they are validated too, as epoch 0, and stay if no epoch is
        better.
      from_boundary: Whether the batches' x is what the frozen blocks give, and not raw features.
      output_watches: See what the model says of validation examples.
      keeper: Takes the checkpoints; None for none.
      resumed: The checkpoint of `checkpointer` to go on from, within this stage; None to begin it.
      devices: What it trains on; `training` and `validation` are what all of them see together.
      note: Takes the figures of each epoch.
      left: Says how long training goes on.

    Raises:
      LossError: If a loss or gradient became NaN or infinite; the best weights so far are restored.
      AuditError: If something moved that was frozen, or nothing moved.
      KeyboardInterrupt: If the run is to end; a checkpoint is written.
    """
    with devices.scope():
        model = prepare_stage(staged, stage, length.steps, loss, metrics, from_boundary)
    devices.prepare_optimizer(model.optimizer)
    free = may_move(staged, stage)
    rate = build_schedule(stage.learning_rate, stage.schedule, stage.warmup, length.steps)
    watch = GradientMonitor(stage, rate)
    if resumed is None:
        before = fingerprints(staged)
    else:
        before = dict(resumed.facts["before"])
        checkpointer.restore(resumed)
    best = EarlyStopping(stage, free)
    first = training(0 if resumed is None else resumed.facts["within"]["position"]["step"])
    steps = Steps(
        model,
        loss,
        metrics,
        batch=first.element_spec,
        validation_batch=validation.element_spec,
        watch=watch,
        output_monitors=output_monitors,
        devices=devices,
    )
    loop = StageLoop(
        stage,
        length,
        model,
        steps=steps,
        watch=watch,
        best=best,
        training=first,
        validation=validation,
        rate=rate,
        reporter=reporter,
        note=note,
        left=left,
    )
    if resumed is not None:
        loop.go_on(Snapshot(resumed.facts["within"], resumed.arrays))
    if checkpointer is not None:
        checkpointer.begin_stage(before, free)
    try:
        with devices.sync_batch_norm(trained_batch_norms(staged, stage)):
            loop.run(has_start, checkpointer)
    except LossError:
        best.restore()
        raise
    finally:
        clear_penalties(staged)
    audit = audit_stage(staged, stage, before)
    best.restore()
    require_same_weights(staged, devices, f"after stage {stage.name!r}")
    return _result(staged, stage, model, loop.position, best, audit)


def _result(
    staged: StagedModel,
    stage: Stage,
    model: keras.Model,
    position: Position,
    best: EarlyStopping,
    audit: Audit,
) -> StageResult:
    patience_out = f"no better {stage.monitor} for {stage.patience} epochs"
    adapter = None
    if stage.adapter is not None:
        layers = layers_to_adapt(staged.backbone, stage)
        adapter = {"rank": stage.adapter.rank, "layers": len(layers)}
    return StageResult(
        name=stage.name,
        unfreeze=stage.unfreeze,
        learning_rate=stage.learning_rate,
        epochs_run=position.epoch,
        steps=position.step,
        seconds=position.seconds,
        stopped=patience_out if best.is_patience_out else "ran all its epochs",
        best_epoch=best.epoch,
        trainable_parameters=count_parameters(model.trainable_variables),
        total_parameters=count_parameters(staged.model.weights),
        history=position.history,
        audit=audit,
        adapter=adapter,
        start=position.start,
        warnings=tuple(position.warnings),
    )
