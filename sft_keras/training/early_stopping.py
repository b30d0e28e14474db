"""The weights of a stage's best epoch, and whether it is worth going on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from sft_keras.recipe.stage import Stage


class EarlyStopping:
    """Remembers the weights of the best epoch, and when `patience` epochs went by without one.

    Attributes:
      epoch: Number of the best epoch, from 1; 0 for what the stage began with.
      value: Its monitored figure; NaN before the first.
      is_patience_out: Whether the stage should stop.
    """

    def __init__(self, stage: Stage, variables: Mapping[str, keras.Variable]) -> None:
        """`variables` are those that the stage may move, by their paths."""
        self.epoch, self.value, self.is_patience_out = 0, math.nan, False
        self._metric = stage.monitor.removeprefix("val_")
        self._sign = -1.0 if self._metric == "loss" else 1.0
        self._patience = stage.patience
        self._variables = dict(variables)
        self._kept = self._copy()

    def look(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Compares an epoch's validation figures with the best; its weights are in the model."""
        value = float(figures[self._metric])
        if math.isnan(self.value) or self._sign * (value - self.value) > 0:
            self.value, self.epoch = value, epoch
            self._kept = self._copy()
        elif self._patience and epoch - self.epoch >= self._patience:
            self.is_patience_out = True

    def restore(self) -> None:
        """Puts the best weights back into the model."""
        for path, variable in self._variables.items():
            variable.assign(self._kept[path])

    def as_json(self) -> dict[str, Any]:
        """Returns what to go on from, beside `kept`, as plain values."""
        return {"epoch": self.epoch, "value": self.value, "is_patience_out": self.is_patience_out}

    @property
    def kept(self) -> dict[str, np.ndarray]:
        """The best weights by their paths."""
        return dict(self._kept)

    def go_on(self, facts: Mapping[str, Any], kept: Mapping[str, np.ndarray]) -> None:
        """Takes up what `as_json` and `kept` gave."""
        self.epoch, self.value = facts["epoch"], facts["value"]
        self.is_patience_out = facts["is_patience_out"]
        self._kept = {path: kept[path] for path in self._variables}

    def _copy(self) -> dict[str, np.ndarray]:
        return {path: np.array(variable.numpy()) for path, variable in self._variables.items()}
