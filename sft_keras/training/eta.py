"""Time left: an estimate of how long the current stage and those after it still train.

The current stage is timed. A stage that has not begun is estimated from the number of
multiplications it does and the time that a multiplication took so far: in the pass over the frozen
blocks, or else in the steps of the current stage.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

import keras

from sft_keras.backbones.layers import iter_layers
from sft_keras.cache.feature_cache import StageInput
from sft_keras.data.examples import DataInfo
from sft_keras.models.staged import StagedModel, unfrozen_blocks
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage, stage_length

_TRAINING_COST = 3.0  # forward passes: one, and as much each for gradients of inputs and weights

TimeLeft = Callable[[float, int], str]
"""Maps (seconds per step, steps left in the stage) to the time left, in words."""


def stage_time_left(seconds: float, steps: int) -> str:
    """Return the time left of a stage alone, in words; a `TimeLeft`."""
    return f"{clock_time(seconds * steps)} left of the stage"


def clock_time(seconds: float) -> str:
    """Return e.g. "2:05", or "1:02:05" from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def multiplications(layers: Iterable[keras.Layer]) -> float:
    """Return about how many multiplications layers do per example, or per token of a text."""
    return float(sum(_kernel_size(layer) * _positions(layer) for layer in layers))


def _kernel_size(layer: keras.Layer) -> int:
    """Return the parameters in kernels: embeddings are looked up, and vectors are cheap."""
    looked_up = {
        id(variable)
        for part in iter_layers(layer)
        if isinstance(part, keras.layers.Embedding)
        for variable in part.variables
    }
    return sum(
        math.prod(variable.shape)
        for variable in layer.variables
        if len(variable.shape) > 1 and id(variable) not in looked_up
    )


def _positions(layer: keras.Layer) -> int:
    """Return how many times a layer applies its kernels; a length that varies counts as 1."""
    output = keras.tree.flatten(layer.output)[0]
    return math.prod(side or 1 for side in output.shape[1:-1])


class EtaEstimator:
    """Estimates how long the stages of a run still take."""

    def __init__(self, staged: StagedModel, recipe: Recipe, info: DataInfo) -> None:
        self._staged, self._recipe, self._sizes = staged, recipe, dict(info.sizes)
        self._seconds: float | None = None  # per multiplication
        self._from_boundary = False

    def begin_stage(self, stage: Stage, source: StageInput) -> None:
        """Take sizes and the duration of the frozen pass from the input of a stage."""
        self._from_boundary = source.from_boundary
        for name, split in source.prepared.items():
            # A task may split examples into parts; each of several workers holds only some of them.
            self._sizes[name] = max(self._sizes[name], len(split.examples))
        if self._seconds is None and source.frozen_pass is not None:
            frozen = self._frozen_cost(stage)
            examples = self._sizes["train"] + self._sizes["validation"]
            self._seconds = source.frozen_pass["epoch_seconds"] / max(1.0, examples * frozen)

    def describe(self, stage: Stage, seconds: float, steps: int) -> str:
        """Return the longest that training may still take, in words.

        Args:
          stage: The current stage.
          seconds: Duration of one of its steps.
          steps: Steps that it has left.
        """
        later = self._recipe.stages[self._recipe.number_of(stage) + 1 :]
        if not later:
            return f"{clock_time(seconds * steps)} left"
        per_multiplication = self._seconds
        if per_multiplication is None and not self._from_boundary:
            trained = self._recipe.data.batch_size * self._example_cost(stage, _TRAINING_COST)
            per_multiplication = seconds / trained
        if per_multiplication is None:
            return stage_time_left(seconds, steps)
        later_seconds = per_multiplication * sum(map(self._stage_cost, later))
        return f"about {clock_time(seconds * steps + later_seconds)} left"

    def _frozen_cost(self, stage: Stage) -> float:
        """Return the multiplications per example in the frozen blocks."""
        return sum(self._block_costs.values()) - self._unfrozen_cost(stage)

    def _unfrozen_cost(self, stage: Stage) -> float:
        """Return the multiplications per example in the unfrozen blocks."""
        return sum(self._block_costs[id(block)] for block in unfrozen_blocks(self._staged, stage))

    # Cached, since the time left is shown several times a second.
    @functools.cached_property
    def _block_costs(self) -> dict[int, float]:
        return {id(block): multiplications(block.layers) for block in self._staged.backbone.blocks}

    @functools.cached_property
    def _head_cost(self) -> float:
        return multiplications(self._staged.head.layers)

    def _example_cost(self, stage: Stage, factor: float) -> float:
        """Return the multiplications per example, with trainable layers weighted by `factor`."""
        frozen = 0.0 if self._from_boundary else self._frozen_cost(stage)
        return frozen + factor * (self._unfrozen_cost(stage) + self._head_cost)

    def _stage_cost(self, stage: Stage) -> float:
        """Return the multiplications of a whole stage, validation included."""
        length = stage_length(stage, self._sizes["train"], self._recipe.data.batch_size)
        trained = self._recipe.data.batch_size * length.steps
        validated = self._sizes["validation"] * length.epochs
        trained_cost = trained * self._example_cost(stage, _TRAINING_COST)
        return trained_cost + validated * self._example_cost(stage, 1.0)
