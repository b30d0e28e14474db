"""The frozen prefix is computed once: what it gives for each example is stored and trained on.

    images -> [ frozen prefix ] -> boundary -> [ trainable suffix, head ] -> loss
               once per run        stored       every epoch

While blocks are frozen and in inference mode, their output for an example does not change. A stage
that starts from the stored outputs sees the same numbers, to float rounding, as one that computes
them anew in every epoch.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import psutil
import tensorflow as tf

from sft_keras.cache.boundary import boundary_of
from sft_keras.cache.disk import DiskStore, store_folder
from sft_keras.cache.extraction import SlowDiskError
from sft_keras.cache.keys import view_rows
from sft_keras.cache.lookup import Place, RowProvider, WantedSplits
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.request import Wanted
from sft_keras.core.errors import RecipeError
from sft_keras.core.reporter import Reporter
from sft_keras.data.batches import ordered_batches
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Structure
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.staged import StagedModel, unfrozen_blocks
from sft_keras.recipe.recipe import Recipe
from sft_keras.recipe.stage import Stage, stage_length

_MEGABYTE = 2**20
_LARGEST_SHARE = 0.5  # of what is free; rows are in memory twice while they are moved


@dataclasses.dataclass(frozen=True)
class StageInput:
    """What a stage reads.

    Attributes:
      prepared: The splits; their features are what the frozen blocks give, or images as they were.
      from_boundary: Which of the two.
      story: How that came, in words for the log and the report.
      frozen_pass: The pass that computed it in this run: "seconds" that it took, for all boundaries
        ahead, and "epoch_seconds" that so many examples as are in an epoch took of it.
    """

    prepared: Mapping[str, Prepared]
    from_boundary: bool
    story: str
    frozen_pass: Mapping[str, float] | None = None

    @property
    def how_read(self) -> str:
        """What decides on the order of batches and what they hold, beside the recipe."""
        splits = {
            name: (split.features is None, split.views) for name, split in self.prepared.items()
        }
        return f"{self.from_boundary} {sorted(splits.items())}"


class _NotStoredError(Exception):
    """Why what the frozen blocks give is not stored."""


class FeatureCache:
    """Provides the stages with what their frozen prefixes give for each example.

    One pass over the data computes the boundaries of all stages ahead whose prefix will not have
    changed by then, as far as they are not in memory or on disk already. A boundary is let go once
    a stage has trained below it.

    Attributes:
      held: {blocks below a boundary: what a stage that starts there reads}.
    """

    def __init__(
        self,
        staged: StagedModel,
        recipe: Recipe,
        prepared: Mapping[str, Prepared],
        info: DataInfo,
        *,
        reporter: Reporter,
        splits: Sequence[str] = ("train", "validation"),
        memory: MemoryStore | None = None,
        devices: Devices = ONE_DEVICE,
    ) -> None:
        """Makes an empty store.

        Args:
          staged: The model; its weights are read when a stage asks.
          recipe: Whose stages will ask.
          prepared: The splits, or a part of each.
          info: Of the whole splits, whose sizes decide what fits.
          reporter: Receives log lines and progress.
          splits: Those that stages will read.
          memory: Where rows lie that outlive this store; None to keep them no longer than needed.
          devices: The processes that share the work out; each must ask for the same.
        """
        self.held: dict[int, StageInput] = {}
        self._staged, self._recipe, self._prepared, self._info = staged, recipe, prepared, info
        self._splits, self._devices = tuple(splits), devices
        self._keys: dict[int, set[str]] = {}
        self._outlives = memory is not None
        disk = DiskStore(store_folder(recipe.store.folder), reporter)
        self._rows = RowProvider(
            staged, recipe, info, memory or MemoryStore(), disk, reporter, devices
        )

    def input_of(self, stage: Stage) -> StageInput:
        """Returns what a stage reads: stored boundary outputs where that is possible and fits.

        Raises:
          RecipeError: If the recipe insists on memory and it does not fit.
        """
        try:
            self._require_storable(stage)
            if self._below(stage) not in self.held:
                self._provide(stage)
        except _NotStoredError as reason:
            return StageInput(self._prepared, False, f"computed in every epoch: {reason}")
        return self.held[self._below(stage)]

    def drop_after(self, stage: Stage) -> None:
        """Lets go what a finished stage has changed, and what no later stage reads."""
        later = {self._below(each) for each in self._later(stage)}
        self.held = {
            below: source
            for below, source in self.held.items()
            if below <= self._below(stage) and below in later
        }
        if not self._outlives:
            self._rows.memory.keep_only(key for below in self.held for key in self._keys[below])

    def close(self) -> None:
        """Closes files on disk; what was handed out cannot be read any more."""
        self._rows.disk.close()

    def _below(self, stage: Stage) -> int:
        """Returns how many blocks lie below a stage's boundary."""
        return len(self._staged.backbone.blocks) - len(unfrozen_blocks(self._staged, stage))

    def _later(self, stage: Stage) -> Sequence[Stage]:
        stages = self._recipe.stages
        return stages[stages.index(stage) + 1 :]

    def _ahead(self, stage: Stage) -> list[int]:
        """Returns the boundaries to provide now: this stage's, and later ones that will hold."""
        found, trained_from = [], self._below(stage)
        for each in (stage, *self._later(stage)):
            below = self._below(each)
            if 0 < below <= trained_from and below not in (*found, *self.held):
                found.append(below)
            trained_from = min(trained_from, below)
        return found

    def _require_storable(self, stage: Stage) -> None:
        recipe = self._recipe
        if recipe.cache == "off":
            raise _NotStoredError("the recipe says cache='off'")
        if self._below(stage) == 0:
            raise _NotStoredError("nothing is frozen")
        if not recipe.task.supports_views:
            raise _NotStoredError("what is read is drawn anew each time")
        if recipe.task.augmentation_fingerprint() and recipe.store.views is None:
            raise _NotStoredError(
                "augmentation changes the images each time (`store.views` would store some)"
            )

    def _provide(self, stage: Stage) -> None:
        """Finds or computes the boundary of a stage, and those ahead that fit beside it."""
        own = self._below(stage)
        free = {
            "memory": self._memory_share() * psutil.virtual_memory().available,
            "disk": _LARGEST_SHARE * self._rows.disk.free(),
        }
        # Where there is room must be so for all workers, or they would go different ways.
        (everyones,) = self._devices.all_gather([np.array(list(free.values()), np.float64)])
        budgets: dict[Place, float] = dict(zip(free, everyones.min(axis=0).tolist()))
        lacking: list[tuple[WantedSplits, Place]] = []
        for below in self._ahead(stage):
            wanted = self._wanted(below)
            if self._find(below, wanted):
                continue
            try:
                place = self._place(stage, wanted, budgets)
            except (_NotStoredError, RecipeError):
                if below == own:
                    raise
                continue  # its own stage asks again, when there may be room
            budgets[place] -= self._bytes(wanted)
            lacking.append((wanted, place))
        if lacking:
            self._compute(own, lacking)

    def _wanted(self, below: int) -> WantedSplits:
        recipe, train = self._recipe, self._prepared["train"]
        boundary = boundary_of(self._staged, below, recipe.store, self._example)
        wanted = {
            name: Wanted(boundary, self._prepared[name], self._prepared[name].digests)
            for name in self._splits
        }
        drawn = recipe.task.augmentation_fingerprint()
        if not drawn:
            return wanted
        views = recipe.store.views
        drawn_from = f"{drawn}, seed {recipe.seed}, batches of {recipe.data.batch_size}"
        labels, size = train.examples.labels, self._info.num_classes
        if train.targets is not None:
            labels = train.targets.take(tf.range(len(train.examples))).numpy()
            size = labels.shape[1]
        names = view_rows(train.digests, labels, views, drawn_from)
        with_targets = boundary.with_targets(size)
        return {**wanted, "train": Wanted(with_targets, train, names, views)}

    @functools.cached_property
    def _example(self) -> Structure:
        """What the model reads for one example, with the places of the longest there may be."""
        train = self._prepared["train"]
        if train.features is not None:
            return train.features.take(tf.constant([0], tf.int64))
        return next(iter(ordered_batches(train, 1)))["input"]

    def _find(self, below: int, wanted: WantedSplits) -> bool:
        """Looks for a boundary in memory and on disk."""
        found = self._rows.find_in_memory(wanted)
        story = "read from memory"
        if found is None and self._recipe.cache in ("auto", "disk"):
            found = self._rows.find_on_disk(wanted)
            story = f"found on disk, {self._size(wanted)} in {self._rows.disk.folder}"
        is_found = self._devices.all_agree(found is not None)
        if is_found:
            self._hold(below, wanted, found, story)
        return is_found

    def _hold(
        self,
        below: int,
        wanted: WantedSplits,
        splits: Mapping[str, Prepared],
        story: str,
        frozen_pass: Mapping[str, float] | None = None,
    ) -> None:
        self.held[below] = StageInput(splits, True, story, frozen_pass)
        self._keys[below] = {each.boundary.key for each in wanted.values()}

    def _compute(self, own: int, lacking: Sequence[tuple[WantedSplits, Place]]) -> None:
        """Computes boundaries in one pass and holds them; `own` is the one that is needed now."""
        done = self._rows.compute(lacking)
        epochs = self._epochs([wanted["validation"].boundary.below for wanted, _ in lacking])
        in_an_epoch = sum(map(self._size_of, lacking[0][0]))
        frozen_pass = {
            "seconds": done.seconds,
            "epoch_seconds": done.seconds * in_an_epoch / max(1, done.examples),
        }
        for wanted, place in lacking:
            below = wanted["validation"].boundary.below
            failures = [
                done.failures[each.boundary.key]
                for each in wanted.values()
                if each.boundary.key in done.failures
            ]
            if failures:
                if below == own:
                    raise _NotStoredError(self._reason(failures[0]))
                continue
            if place == "memory":
                found = self._rows.find_in_memory(wanted)
                where = "in memory"
            else:
                found = self._rows.find_on_disk(wanted, is_new=True)
                where = f"on disk in {self._rows.disk.folder}"
            if found is None:
                raise _NotStoredError(f"what was written to {self._rows.disk.folder} is not there")
            count = self._devices.num_workers
            by = f" by {count} workers" if count > 1 else ""
            story = (
                f"computed once for {done.examples} examples in {done.seconds:.1f} s{by}, and not "
                f"in each of {epochs} epochs; {self._size(wanted)} {where}"
            )
            self._hold(below, wanted, found, story, frozen_pass)

    def _epochs(self, boundaries: Sequence[int]) -> int:
        """Returns in how many epochs, at the most, stages read one of the boundaries."""
        size, batch_size = self._size_of("train"), self._recipe.data.batch_size
        stages = [stage for stage in self._recipe.stages if self._below(stage) in boundaries]
        return sum(stage_length(stage, size, batch_size).epochs for stage in stages)

    def _place(self, stage: Stage, wanted: WantedSplits, budgets: Mapping[Place, float]) -> Place:
        """Returns where rows that are lacking are to be stored.

        Raises:
          _NotStoredError: If they fit nowhere.
          RecipeError: If the recipe insists on memory, which has no room.
        """
        cache, needed = self._recipe.cache, self._bytes(wanted)
        if cache == "auto" and self._devices.all_agree(self._rows.is_mostly_on_disk(wanted)):
            return "disk"
        if cache != "disk" and needed <= budgets["memory"]:
            return "memory"
        lacking = (
            f"it would take {needed / _MEGABYTE:,.0f} MB of memory, and "
            f"{self._memory_share():.0%} of what is free are "
            f"{budgets['memory'] / _MEGABYTE:,.0f} MB"
        )
        if cache == "memory":
            raise RecipeError(
                f"`cache` is 'memory', but for stage {stage.name!r} {lacking}. "
                "Raise `data.memory_share`, or set `cache` to 'auto', 'disk' or 'off'."
            )
        if needed <= budgets["disk"]:
            return "disk"
        on_disk = (
            f"{_LARGEST_SHARE:.0%} of what is free on the disk of {self._rows.disk.folder} are "
            f"{budgets['disk'] / _MEGABYTE:,.0f} MB"
        )
        if cache == "disk":
            raise _NotStoredError(f"it would take {needed / _MEGABYTE:,.0f} MB, and {on_disk}")
        raise _NotStoredError(f"{lacking}, and {on_disk}")

    def _memory_share(self) -> float:
        return min(self._recipe.data.memory_share, _LARGEST_SHARE)

    def _bytes(self, wanted: WantedSplits) -> int:
        """Returns what the rows take when the whole splits are there."""
        return sum(
            self._size_of(name) * (each.views or 1) * each.boundary.row_size
            for name, each in wanted.items()
        )

    def _size_of(self, split: str) -> int:
        """Returns the size of a whole split; of some tasks an example is read in several parts."""
        return max(self._info.sizes[split], len(self._prepared[split].examples))

    def _size(self, wanted: WantedSplits) -> str:
        return f"{self._bytes(wanted) / _MEGABYTE:,.0f} MB"

    def _reason(self, error: OSError) -> str:
        folder = self._rows.disk.folder
        if isinstance(error, SlowDiskError):
            return f"{error} ({folder})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full ({folder})"
        return f"{folder} cannot be written ({error.strerror or error})"
