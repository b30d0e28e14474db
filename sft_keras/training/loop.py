"""The training loop of one stage: steps, a validation after each epoch, and a resumable position.

An epoch here is a round of `Length.steps_per_epoch` batches, which need not be one pass over the
data. The loop can stop after any step and resume there from a snapshot of its state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.core.reporter import Reporter
from sft_keras.core.snapshot import Snapshot
from sft_keras.training.checkpointer import Checkpointer
from sft_keras.training.early_stopping import EarlyStopping
from sft_keras.training.gradient_monitor import GradientMonitor
from sft_keras.training.stage_plan import StagePlan
from sft_keras.training.step import NO_REQUESTS, Steps

_PROGRESS_INTERVAL = 0.2  # seconds between two progress texts


@dataclasses.dataclass
class Position:
    """How far a stage has come. Checkpoints hold the fields under these names.

    Attributes:
      step: Batches trained on.
      epoch: Epochs finished, validation included.
      trained: Training metrics of an epoch whose validation is still to come; else None.
      start: Validation metrics of the initial weights; None if they are not validated.
      history: {metric: one value per epoch}.
      warnings: Warnings to show in the report.
      seconds: Duration so far, over all processes that it took.
    """

    step: int = 0
    epoch: int = 0
    trained: dict[str, float] | None = None
    start: dict[str, float] | None = None
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class StageLoop:
    """Runs the steps and validations of a stage, and can resume after any step.

    Attributes:
      position: How far the stage has come.
    """

    def __init__(
        self,
        plan: StagePlan,
        training: tf.data.Dataset,
        steps: Steps,
        early_stopping: EarlyStopping,
        gradient_monitor: GradientMonitor,
        reporter: Reporter,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        """Build the loop.

        Args:
          plan: What the stage trains with.
          training: The plan's training batches from the position to start or resume at.
          steps: The training and validation steps of the stage's model.
          early_stopping: Keeps the best weights of the variables that the stage may change.
          gradient_monitor: Observes every step in `steps`.
          reporter: Receives log lines, progress and the metrics of each epoch.
          checkpointer: Writes checkpoints; None to train without.
        """
        self.position = Position()
        self._plan, self._training, self._steps = plan, training, steps
        self._early_stopping, self._monitor = early_stopping, gradient_monitor
        self._reporter, self._checkpointer = reporter, checkpointer
        self._ema = None
        if plan.stage.ema is not None:
            self._ema = keras.callbacks.SwapEMAWeights()
            self._ema.set_model(steps.model)
        self._began = self._epoch_began = self._last_progress = time.perf_counter()
        self._traced: tuple[float, int] | None = None  # (time, step) after the first step

    def run(self) -> None:
        """Run the rest of the stage.

        Raises:
          LossError: If a loss or a gradient is not finite.
          KeyboardInterrupt: If the run is to stop; a checkpoint is written.
        """
        self._began, position = time.perf_counter(), self.position
        checkpointer, early_stopping = self._checkpointer, self._early_stopping
        with contextlib.nullcontext() if checkpointer is None else checkpointer.within_stage():
            if self._plan.validates_start and position.start is None:
                position.start = self._validation_metrics()
                early_stopping.update(0, position.start)
            batches = iter(self._training)
            while position.epoch < self._plan.length.epochs and not early_stopping.is_patience_out:
                self._train_epoch(batches)
                self._validate_epoch()
        position.seconds = self._seconds()
        if (warning := self._monitor.explosion()) is not None:
            self._warn(warning)

    def snapshot(self) -> Snapshot:
        """Return the state to resume from, except the model's weights.

        Raises:
          LossError: If a loss or a gradient was not finite: no run should resume from there.
        """
        self._monitor.require_good()
        position = {**dataclasses.asdict(self.position), "seconds": self._seconds()}
        state = {f"state/{index:05d}": value for index, value in enumerate(self._steps.state())}
        best = {f"best/{path}": value for path, value in self._early_stopping.kept.items()}
        return Snapshot(
            {"position": position, "best": self._early_stopping.as_json()}, {**state, **best}
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the state returned by `snapshot`."""
        self.position = Position(**snapshot.facts["position"])
        state = _with_prefix("state/", snapshot.arrays)
        self._steps.restore([state[name] for name in sorted(state)])
        self._early_stopping.resume(snapshot.facts["best"], _with_prefix("best/", snapshot.arrays))

    def _train_epoch(self, batches: Iterator[Any]) -> None:
        """Train to the end of the current epoch."""
        position, steps_per_epoch = self.position, self._plan.length.steps_per_epoch
        first = position.epoch * steps_per_epoch
        checkpointer = self._checkpointer
        if position.step == first:
            self._steps.reset()
        self._epoch_began, examples_before = time.perf_counter(), self._steps.examples
        while position.step < first + steps_per_epoch:
            requests = NO_REQUESTS if checkpointer is None else checkpointer.requests()
            all_requests = self._steps.train(next(batches), requests)
            position.step += 1
            if self._traced is None:  # tracing makes the first step longer than any other
                self._traced = time.perf_counter(), position.step
            if time.perf_counter() - self._last_progress > _PROGRESS_INTERVAL:
                self._show_progress(first, examples_before)
            if checkpointer is not None:
                checkpointer.after_step(self.snapshot, all_requests)
        self._monitor.require_good()

    def _show_progress(self, first_step: int, examples_before: int) -> None:
        if self._steps.is_alone:  # else all workers check the same step, at the end of the epoch
            self._monitor.require_good()
        self._last_progress = time.perf_counter()
        passed = self._last_progress - self._epoch_began
        position, length = self.position, self._plan.length
        self._reporter.progress(  # the end is the first to go on a narrow terminal
            f"{self._heading()}  step {position.step - first_step}/{length.steps_per_epoch}  "
            f"{self._time_left()}  {_formatted(self._steps.local_results())}  "
            f"{(self._steps.examples - examples_before) / passed:,.0f} examples/s  "
            f"rate {self._monitor.learning_rate(position.step):.2g}"
        )

    def _validate_epoch(self) -> None:
        """Validate the epoch that has just trained, and finish it."""
        position = self.position
        if position.trained is None:
            position.trained = self._steps.results()
        try:
            with self._averaged_weights():
                validated = self._validation_metrics()
                self._early_stopping.update(position.epoch + 1, validated)
        except KeyboardInterrupt:
            if self._checkpointer is not None:  # without one, nothing could resume
                self._checkpointer.write(self.snapshot())
            raise
        metrics = {
            **position.trained,
            **{f"val_{name}": value for name, value in validated.items()},
        }
        rate = self._monitor.learning_rate(position.step)
        for name, value in {**metrics, "learning_rate": rate}.items():
            position.history.setdefault(name, []).append(value)
        self._reporter.epoch(
            self._plan.stage.name,
            self._plan.steps_before + position.step,
            {**metrics, "learning_rate": rate},
        )
        seconds = time.perf_counter() - self._epoch_began
        self._reporter.line(f"{self._heading()}  {_formatted(metrics)}  {seconds:.1f} s")
        if position.epoch == 0:
            where = (
                f"after the first epoch of stage {self._plan.stage.name!r} (step {position.step}, "
                f"learning rate {rate:.2g})"
            )
            for warning in self._steps.warnings():
                self._warn(warning.format(where=where))
        position.epoch, position.trained = position.epoch + 1, None

    def _validation_metrics(self) -> dict[str, float]:
        checkpointer = self._checkpointer
        hooks: tuple[Callable[..., Any], ...] = ()
        if checkpointer is not None:
            hooks = checkpointer.check, checkpointer.requests
        metrics = self._steps.validate(self._plan.validation, *hooks)
        self._monitor.require_finite("validation loss", metrics["loss"])
        return metrics

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Swap the moving averages into the model within the block, if the stage keeps any."""
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

    def _time_left(self) -> str:
        """Return the time left at most, estimated from the steps since tracing."""
        if self._traced is None or self._traced[1] == self.position.step:
            return "tracing"
        since, step = self._traced
        seconds = (time.perf_counter() - since) / (self.position.step - step)
        return self._plan.time_left(seconds, self._plan.length.steps - self.position.step)

    def _heading(self) -> str:
        epoch = f"{self.position.epoch + 1}/{self._plan.length.epochs}"
        return f"{self._plan.stage.name}  epoch {epoch}"


def _with_prefix(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _formatted(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
