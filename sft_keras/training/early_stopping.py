"""Early stopping: keep the weights of a stage's best epoch and end it when patience runs out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from sft_keras.recipe.metric import Metric
from sft_keras.recipe.stage import Stage


class EarlyStopping:
    """Keeps the weights of the best epoch and stops after `patience` epochs without a better one.

    In contrast to `keras.callbacks.EarlyStopping` it can be saved and resumed, and epoch 0, the
    initial weights, can be the best.

    Attributes:
      epoch: Number of the best epoch, from 1; 0 for the initial weights.
      value: Its monitored metric; NaN before the first.
      is_patience_out: Whether the stage should stop.
    """

    def __init__(
        self, stage: Stage, monitor: Metric, variables: Mapping[str, keras.Variable]
    ) -> None:
        """Copy the initial weights.

        Args:
          stage: The stage; sets the patience.
          monitor: The validation metric that `Stage.monitor` names.
          variables: Those that the stage may change, by path.
        """
        self.epoch, self.value, self.is_patience_out = 0, math.nan, False
        self._monitor = monitor
        self._patience = stage.patience
        self._variables = dict(variables)
        self._kept = self._copy()

    def update(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Compare an epoch's validation metrics with the best; its weights are in the model."""
        value = float(metrics[self._monitor.name])
        if math.isnan(self.value) or self._monitor.is_better(value, self.value):
            self.value, self.epoch = value, epoch
            self._kept = self._copy()
        elif self._patience and epoch - self.epoch >= self._patience:
            self.is_patience_out = True

    def restore(self) -> None:
        """Restore the best weights in the model."""
        for path, variable in self._variables.items():
            variable.assign(self._kept[path])

    def as_json(self) -> dict[str, Any]:
        """Return the state as plain values, without the weights in `kept`."""
        return {"epoch": self.epoch, "value": self.value, "is_patience_out": self.is_patience_out}

    @property
    def kept(self) -> dict[str, np.ndarray]:
        """{path: value} of the best weights."""
        return dict(self._kept)

    def resume(self, facts: Mapping[str, Any], kept: Mapping[str, np.ndarray]) -> None:
        """Restore the state returned by `as_json` and `kept`."""
        self.epoch, self.value = facts["epoch"], facts["value"]
        self.is_patience_out = facts["is_patience_out"]
        self._kept = {path: kept[path] for path in self._variables}

    def _copy(self) -> dict[str, np.ndarray]:
        return {path: np.array(variable.numpy()) for path, variable in self._variables.items()}
