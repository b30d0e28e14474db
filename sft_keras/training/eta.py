"""About how long a run goes on training: the stage it is in, and those after it.

How long a stage takes that has not begun is guessed from how long frozen blocks took, by what
either multiplies. A stage that has begun says so itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import keras

from sft_keras.backbones.layers import iter_layers
from sft_keras.cache.feature_cache import StageInput
from sft_keras.data.examples import DataInfo
from sft_keras.models.staged import StagedModel, unfrozen_blocks
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage, stage_length
from sft_keras.training.loop import clock_time, of_the_stage

_TRAINING = 3.0  # times what a forward pass takes: forward, and gradients of inputs and weights


def multiplications(layers: Iterable[keras.Layer]) -> float:
    """Returns about how many multiplications layers do for one example, or one token of a text."""
    return float(sum(_weights(layer) * _places(layer) for layer in layers))


def _weights(layer: keras.Layer) -> int:
    """Returns the numbers in kernels; those of embeddings are looked up, and vectors are cheap."""
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


def _places(layer: keras.Layer) -> int:
    """Returns how many times the kernels of a layer are applied; 1 for a length that varies."""
    output = keras.tree.flatten(layer.output)[0]
    return math.prod(side or 1 for side in output.shape[1:-1])


class EtaEstimator:
    """Guesses how long the stages of a run still take."""

    def __init__(self, staged: StagedModel, recipe: Recipe, info: DataInfo) -> None:
        self._staged, self._recipe, self._sizes = staged, recipe, dict(info.sizes)
        self._seconds: float | None = None  # of a multiplication
        self._from_boundary = False

    def see(self, stage: Stage, source: StageInput) -> None:
        """Looks at what a stage reads, before it begins."""
        self._from_boundary = source.from_boundary
        for name, split in source.prepared.items():
            # Of some tasks an example is read in several parts; of several workers each has some.
            self._sizes[name] = max(self._sizes[name], len(split.examples))
        if self._seconds is None and source.frozen_pass is not None:
            below = self._below(stage)
            examples = self._sizes["train"] + self._sizes["validation"]
            self._seconds = source.frozen_pass["epoch_seconds"] / max(1.0, examples * below)

    def describe(self, stage: Stage, seconds: float, steps: int) -> str:
        """Returns how long training goes on at most.

        Args:
          stage: That goes on.
          seconds: That one of its steps takes.
          steps: That it still has.
        """
        later = self._recipe.stages[self._recipe.number_of(stage) + 1 :]
        if not later:
            return f"{clock_time(seconds * steps)} left"
        a_multiplication = self._seconds
        if a_multiplication is None and not self._from_boundary:
            trained = self._recipe.data.batch_size * self._of_an_example(stage, _TRAINING)
            a_multiplication = seconds / trained
        if a_multiplication is None:
            return of_the_stage(seconds, steps)
        more = a_multiplication * sum(map(self._of_a_stage, later))
        return f"about {clock_time(seconds * steps + more)} left"

    def _below(self, stage: Stage) -> float:
        """Returns the multiplications of the frozen blocks."""
        return sum(self._of_blocks.values()) - self._above(stage)

    def _above(self, stage: Stage) -> float:
        """Returns the multiplications of the blocks that are free."""
        return sum(self._of_blocks[id(block)] for block in unfrozen_blocks(self._staged, stage))

    # Once: the time left is said several times a second.
    @functools.cached_property
    def _of_blocks(self) -> dict[int, float]:
        return {id(block): multiplications(block.layers) for block in self._staged.backbone.blocks}

    @functools.cached_property
    def _of_head(self) -> float:
        return multiplications(self._staged.head.layers)

    def _of_an_example(self, stage: Stage, times: float) -> float:
        """Returns the multiplications, those of what trains so many times."""
        below = 0.0 if self._from_boundary else self._below(stage)
        return below + times * (self._above(stage) + self._of_head)

    def _of_a_stage(self, stage: Stage) -> float:
        length = stage_length(stage, self._sizes["train"], self._recipe.data.batch_size)
        trained = self._recipe.data.batch_size * length.steps
        validated = self._sizes["validation"] * length.epochs
        return trained * self._of_an_example(stage, _TRAINING) + validated * self._of_an_example(
            stage, 1.0
        )
