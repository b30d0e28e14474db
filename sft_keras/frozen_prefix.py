"""The frozen prefix is computed once: what it gives for each example is stored and trained on.

    images -> [ frozen prefix ] -> boundary -> [ trainable suffix, head ] -> loss
               once per run        stored       every epoch

While blocks are frozen and in inference mode, their output for an example does not change. A stage
that starts from the stored outputs sees the same numbers, to float rounding, as one that computes
them anew in every epoch.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import psutil
import tensorflow as tf

from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.store import Prepared
from sft_keras.errors import RecipeError
from sft_keras.freezing import unfrozen_blocks
from sft_keras.recipe import Recipe, Stage
from sft_keras.staged_model import StagedModel

_BATCH = 32
_MEGABYTE = 2**20
_READ_EVERY_EPOCH = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class StageInput:
    """What a stage reads.

    Attributes:
      prepared: The splits; their features are what the frozen blocks give, or images as they were.
      from_boundary: Which of the two.
      story: How that came, in words for the log and the report.
    """

    prepared: Mapping[str, Prepared]
    from_boundary: bool
    story: str


class FrozenPrefixStore:
    """Holds in memory what the frozen prefixes of a run give for each example.

    One pass over the data computes the boundaries of all stages ahead whose prefix will not have
    changed by then. A stored boundary is dropped once a stage has trained below it.

    Attributes:
      held: {blocks below the boundary: {split: what the boundary gives}}.
    """

    def __init__(
        self,
        staged: StagedModel,
        recipe: Recipe,
        prepared: Mapping[str, Prepared],
        sizes: Mapping[str, int],
        progress: Callable[[int, int], None],
    ) -> None:
        """`sizes` are the splits' sizes in the run, of which `prepared` may be a part."""
        self.held: dict[int, dict[str, Prepared]] = {}
        self._staged, self._recipe, self._prepared = staged, recipe, prepared
        self._examples = sum(sizes[name] for name in _READ_EVERY_EPOCH)
        self._progress = progress

    def input_of(self, stage: Stage) -> StageInput:
        """Returns what a stage reads: stored boundary outputs where that is possible and fits.

        Raises:
          RecipeError: If the recipe insists on memory and it does not fit.
        """
        reason = self._reason_against(stage)
        if reason is not None:
            return StageInput(self._prepared, False, f"computed in every epoch: {reason}")
        story = "read from memory"
        if self._below(stage) not in self.held:
            story = self._compute(self._ahead(stage))
        return StageInput(self.held[self._below(stage)], True, story)

    def drop_after(self, stage: Stage) -> None:
        """Drops what a finished stage has changed, and what no later stage reads."""
        later = {self._below(each) for each in self._later(stage)}
        self.held = {
            below: splits
            for below, splits in self.held.items()
            if below <= self._below(stage) and below in later
        }

    def _below(self, stage: Stage) -> int:
        """Returns how many blocks lie below a stage's boundary."""
        return len(self._staged.backbone.blocks) - len(unfrozen_blocks(self._staged, stage))

    def _later(self, stage: Stage) -> Sequence[Stage]:
        stages = self._recipe.stages
        return stages[stages.index(stage) + 1 :]

    def _ahead(self, stage: Stage) -> list[int]:
        """Returns the boundaries to compute now: this stage's, and later ones that will hold."""
        found, trained_from = [], self._below(stage)
        for each in (stage, *self._later(stage)):
            below = self._below(each)
            if 0 < below <= trained_from and below not in (*found, *self.held):
                found.append(below)
            trained_from = min(trained_from, below)
        # What does not fit beside the first is left for its own stage.
        while len(found) > 1 and self._bytes(found) > self._budget():
            found.pop()
        return found

    def _reason_against(self, stage: Stage) -> str | None:
        """Returns why a stage cannot read from the store, or None if it can."""
        if self._recipe.cache == "off":
            return "the recipe says cache='off'"
        if self._below(stage) == 0:
            return "nothing is frozen"
        if self._recipe.task.changes_training_inputs():
            return "augmentation changes the images each time"
        if self._below(stage) in self.held:
            return None
        needed, budget = self._bytes([self._below(stage)]), self._budget()
        if needed <= budget:
            return None
        lacking = (
            f"it would take {needed / _MEGABYTE:,.0f} MB of memory, and "
            f"{self._recipe.data.memory_share:.0%} of what is free are {budget / _MEGABYTE:,.0f} MB"
        )
        if self._recipe.cache == "memory":
            raise RecipeError(
                f"`cache` is 'memory', but for stage {stage.name!r} {lacking}. "
                "Raise `data.memory_share`, or set `cache` to 'auto' or 'off'."
            )
        return lacking

    def _bytes(self, boundaries: Sequence[int]) -> int:
        tensors = [self._staged.backbone.blocks[below - 1].output for below in boundaries]
        numbers = sum(math.prod(tensor.shape[1:]) for tensor in tensors)
        return self._examples * numbers * tf.as_dtype(tensors[0].dtype).size

    def _budget(self) -> float:
        return self._recipe.data.memory_share * psutil.virtual_memory().available

    def _compute(self, boundaries: Sequence[int]) -> str:
        """Computes boundaries for each example of each split, in one pass; returns the story."""
        began = time.perf_counter()
        prefix = self._staged.prefix_with_outputs(boundaries)

        # One function for all splits, so that the network is traced once.
        @tf.function(input_signature=[tf.TensorSpec(prefix.input_shape, tf.uint8)])
        def compute(images: tf.Tensor) -> list[tf.Tensor]:
            # Flattened, because a model of one output returns it bare.
            return tf.nest.flatten(prefix(tf.cast(images, tf.float32), training=False))

        total = sum(len(self._prepared[name].examples) for name in _READ_EVERY_EPOCH)
        self.held.update((below, {}) for below in boundaries)
        done = 0
        for name in _READ_EVERY_EPOCH:
            prepared = self._prepared[name]
            computed = self._outputs(compute, prefix.outputs, prepared, done, total)
            for below, features in zip(boundaries, computed):
                self.held[below][name] = dataclasses.replace(prepared, features=features)
            done += len(prepared.examples)
        size = self._bytes(boundaries) / _MEGABYTE
        seconds = time.perf_counter() - began
        return f"computed once for {total} examples, {size:,.0f} MB in memory ({seconds:.1f} s)"

    def _outputs(
        self,
        compute: Callable[[tf.Tensor], list[tf.Tensor]],
        like: Sequence[keras.KerasTensor],
        prepared: Prepared,
        done: int,
        total: int,
    ) -> list[tf.Tensor]:
        """Returns each output of `compute` for a whole split, in stored order, on the CPU."""
        batches = with_options(ordered_batches(prepared, _BATCH), self._recipe.deterministic)
        stored = [
            np.empty(
                (len(prepared.examples), *tensor.shape[1:]),
                tf.as_dtype(tensor.dtype).as_numpy_dtype,
            )
            for tensor in like
        ]
        start = 0
        for images, _ in batches:
            end = start + len(images)
            for array, values in zip(stored, compute(images)):
                array[start:end] = values.numpy()
            start = end
            self._progress(done + end, total)
        with tf.device("CPU"):
            return [tf.convert_to_tensor(array) for array in stored]
