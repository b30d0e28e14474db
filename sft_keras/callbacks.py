"""What watches a stage while it trains: the best weights, a loss gone bad, a line an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from sft_keras.errors import LossError
from sft_keras.recipe import Stage


class BestWeights(keras.callbacks.Callback):
    """Remembers the weights of the best epoch, and stops after `patience` epochs without a better.

    It looks at the end of a validation pass, while the weights in the model are the ones that were
    validated: with EMA these are the averages, put in place by `keras.callbacks.SwapEMAWeights`,
    which must come after this callback in the list.

    Attributes:
      best_epoch: Number of the best epoch, from 1; 0 for what the stage began with.
      best: Its monitored figure.
      stopped_early: Whether `patience` ran out.
    """

    def __init__(self, stage: Stage, variables: Iterable[keras.Variable]) -> None:
        super().__init__()
        self.best_epoch, self.best, self.stopped_early = 0, math.nan, False
        self._metric = stage.monitor.removeprefix("val_")
        self._sign = -1.0 if self._metric == "loss" else 1.0
        self._patience = stage.patience
        self._variables = list(variables)
        self._epoch = 0
        self._snapshot = self._copy()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts the epoch."""
        self._epoch = epoch + 1

    def on_test_end(self, logs: Any = None) -> None:
        """Compares the validation figures with the best so far."""
        value = float((logs or {})[self._metric])
        if math.isnan(self.best) or self._sign * (value - self.best) > 0:
            self.best, self.best_epoch = value, self._epoch
            self._snapshot = self._copy()
        elif self._patience and self._epoch - self.best_epoch >= self._patience:
            self.stopped_early = self.model.stop_training = True

    def restore(self) -> None:
        """Puts the best weights back into the model."""
        for variable, value in zip(self._variables, self._snapshot):
            variable.assign(value)

    def _copy(self) -> list[np.ndarray]:
        return [np.array(variable.numpy()) for variable in self._variables]


class StopOnBadLoss(keras.callbacks.Callback):
    """Ends the stage at the first step or validation whose loss is not a finite number.

    It must come before `BestWeights` in the list, or that would keep the weights that led there.
    """

    def __init__(self, stage: Stage, rate: Callable[[int], Any]) -> None:
        """`rate` gives the learning rate of a step, counted from 0."""
        super().__init__()
        self._stage, self._rate, self._step = stage, rate, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Raises a `LossError` if the epoch's mean loss is no longer finite."""
        self._step += 1
        self._require_finite("loss", logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Raises a `LossError` if the last step led to where no loss is."""
        self._require_finite("validation loss", logs)

    def _require_finite(self, what: str, logs: Any) -> None:
        loss = float((logs or {})["loss"])
        if math.isfinite(loss):
            return
        name = self._stage.name
        raise LossError(
            f"The {what} became {loss} in stage {name!r} at step {self._step} "
            f"(learning rate {float(self._rate(self._step - 1)):.2g}). "
            "Try a lower rate or clipping: "
            f"--set=stages.{name}.learning_rate={self._stage.learning_rate / 10:g} or "
            f"--set=stages.{name}.clip_norm=1.0."
        )


class Progress(keras.callbacks.Callback):
    """Tells how the stage goes: within an epoch to a terminal, and a line at each epoch's end.

    Also notes the learning rate of the epoch's last step in the logs, so the history has it.
    """

    def __init__(
        self,
        stage: Stage,
        epochs: int,
        rate: Callable[[int], Any],
        say: Callable[[str], None],
        tick: Callable[[str], None],
    ) -> None:
        """`rate` gives the learning rate of a step, counted from 0."""
        super().__init__()
        self._stage, self._epochs, self._rate = stage, epochs, rate
        self._say, self._tick = say, tick
        self._epoch, self._step, self._began, self._ticked = 0, 0, 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the epoch's clock."""
        self._epoch, self._began = epoch + 1, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Refreshes the line within the epoch, a few times a second."""
        self._step += 1
        now = time.perf_counter()
        if now - self._ticked > 0.2:
            self._ticked = now
            steps = self.params.get("steps") or "?"
            self._tick(f"{self._head()}  step {batch + 1}/{steps}  {_figures(logs or {})}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Says the epoch's figures."""
        if logs is not None:
            logs["learning_rate"] = float(self._rate(self._step - 1))
        seconds = time.perf_counter() - self._began
        self._say(f"{self._head()}  {_figures(logs or {})}  {seconds:.1f} s")

    def _head(self) -> str:
        return f"{self._stage.name}  epoch {self._epoch}/{self._epochs}"


def _figures(logs: dict[str, Any]) -> str:
    shown = {name: value for name, value in logs.items() if name != "learning_rate"}
    return "  ".join(f"{name} {float(value):.4f}" for name, value in shown.items())
