"""The feature cache: compute the frozen prefix once per example and train on its outputs.

    images -> [ frozen prefix ] -> features -> [ trainable suffix, head ] -> loss
               once per run        cached       every epoch

While blocks are frozen and in inference mode, their output for an example does not change. A stage
that trains on cached features sees the same numbers, up to float rounding, as one that recomputes
them in every epoch.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
from collections.abc import Mapping, Sequence

import tensorflow as tf

from sft_keras.cache.boundary import boundary_of
from sft_keras.cache.disk import DiskStore, store_folder
from sft_keras.cache.keys import view_rows
from sft_keras.cache.lookup import PassResult, RowProvider
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.placement import Budgets, Location, NotCachedError, megabytes
from sft_keras.cache.row_request import RowRequest, SplitRequests
from sft_keras.cache.sink import SlowDiskError
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


@dataclasses.dataclass(frozen=True)
class StageInput:
    """What a stage trains on.

    Attributes:
      prepared: The splits; their features are cached features, or the original inputs.
      from_boundary: Whether they are cached features.
      story: Where they come from, for the log and the report.
      frozen_pass: Cost of the pass that computed them in this run: "seconds", the time for all
        boundaries computed with it, and "epoch_seconds", the part of it that one epoch's examples
        took. None if they were not computed in this run.
    """

    prepared: Mapping[str, Prepared]
    from_boundary: bool
    story: str
    frozen_pass: Mapping[str, float] | None = None

    @property
    def fingerprint(self) -> str:
        """Everything beside the recipe that affects the order and contents of batches."""
        splits = {
            name: (split.features is None, split.views) for name, split in self.prepared.items()
        }
        return f"{self.from_boundary} {sorted(splits.items())}"


class FeatureCache:
    """Provides stages with the cached features of their frozen prefixes.

    One pass over the data computes the boundaries of the current and all later stages whose prefix
    stays unchanged until then, unless they are already in memory or on disk. A boundary is
    released once a stage has trained blocks below it.

    Attributes:
      held: {number of blocks below a boundary: input of a stage that starts there}.

    Example:

    ```python
    cache = FeatureCache(staged, recipe, prepared, info, reporter=CONSOLE)
    try:
        for stage in recipe.stages:
            source = cache.input_of(stage)
            ...  # train on source.prepared["train"]
            cache.drop_after(stage)
    finally:
        cache.close()
    ```
    """

    # Each argument is a separate decision of the caller; those with a default are keyword-only.
    def __init__(  # noqa: PLR0913
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
        """Create an empty cache.

        Args:
          staged: The model; its weights are read whenever a stage requests its input.
          recipe: The recipe whose stages are trained.
          prepared: The splits, or a part of each.
          info: Facts about the whole splits; their sizes determine what fits.
          reporter: Receives log lines and progress.
          splits: Names of the splits that stages read.
          memory: Store for rows that outlive this cache; None to release rows when no longer
            needed.
          devices: The processes that share the work; all of them must make the same calls.
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
        """Return the input of a stage: cached features where possible, else the original inputs.

        Raises:
          RecipeError: If the recipe requires caching in memory and the features do not fit.
        """
        try:
            self._require_cacheable(stage)
            if self._below(stage) not in self.held:
                self._provide(stage)
        except NotCachedError as reason:
            return StageInput(self._prepared, False, f"computed in every epoch: {reason}")
        return self.held[self._below(stage)]

    def drop_after(self, stage: Stage) -> None:
        """Release features that a finished stage has invalidated or that no later stage reads."""
        needed = {self._below(later) for later in self._later(stage)}
        self.held = {
            below: source
            for below, source in self.held.items()
            if below <= self._below(stage) and below in needed
        }
        if not self._outlives:
            self._rows.memory.keep_only(key for below in self.held for key in self._keys[below])

    def close(self) -> None:
        """Close the files on disk; features read from them become unusable."""
        self._rows.disk.close()

    def _below(self, stage: Stage) -> int:
        """Return the number of blocks below a stage's boundary."""
        return len(self._staged.backbone.blocks) - len(unfrozen_blocks(self._staged, stage))

    def _later(self, stage: Stage) -> Sequence[Stage]:
        stages = self._recipe.stages
        return stages[stages.index(stage) + 1 :]

    def _ahead(self, stage: Stage) -> list[int]:
        """Return the boundaries to provide now: the stage's, and later ones that stay valid."""
        boundaries: list[int] = []
        trained_from = self._below(stage)
        for planned in (stage, *self._later(stage)):
            below = self._below(planned)
            if 0 < below <= trained_from and below not in (*boundaries, *self.held):
                boundaries.append(below)
            trained_from = min(trained_from, below)
        return boundaries

    def _require_cacheable(self, stage: Stage) -> None:
        recipe = self._recipe
        if recipe.cache == "off":
            raise NotCachedError("the recipe sets cache='off'")
        if self._below(stage) == 0:
            raise NotCachedError("nothing is frozen")
        if not recipe.task.supports_views:
            raise NotCachedError("the task draws new inputs in every epoch")
        if recipe.task.augmentation_fingerprint() and recipe.store.views is None:
            raise NotCachedError(
                "augmentation changes the inputs in every epoch (`store.views` would cache some "
                "augmented views)"
            )

    def _provide(self, stage: Stage) -> None:
        """Find or compute the boundary of a stage, and later ones that fit beside it."""
        current, cache = self._below(stage), self._recipe.cache
        budgets = Budgets.measure(self._recipe.data.memory_share, self._rows.disk, self._devices)
        missing: list[tuple[SplitRequests, Location]] = []
        for below in self._ahead(stage):
            requests = self._requests(below)
            if self._find(below, requests):
                continue
            is_mostly_on_disk = cache == "auto" and self._devices.all_agree(
                self._rows.is_mostly_on_disk(requests)
            )
            size = self._bytes(requests)
            try:
                location = budgets.choose(
                    cache, size, stage.name, is_mostly_on_disk=is_mostly_on_disk
                )
            except (NotCachedError, RecipeError):
                if below == current:
                    raise
                continue  # requested again by its own stage, when there may be more room
            budgets.reserve(location, size)
            missing.append((requests, location))
        if missing:
            self._compute(current, missing)

    def _requests(self, below: int) -> SplitRequests:
        recipe, train = self._recipe, self._prepared["train"]
        boundary = boundary_of(self._staged, below, recipe.store, self._example)
        requests = {
            name: RowRequest(boundary, self._prepared[name], self._prepared[name].digests)
            for name in self._splits
        }
        augmentation, views = recipe.task.augmentation_fingerprint(), recipe.store.views
        if not augmentation or views is None:
            return requests
        drawn_from = f"{augmentation}, seed {recipe.seed}, batches of {recipe.data.batch_size}"
        labels, size = train.examples.labels, self._info.num_classes
        if train.targets is not None:
            labels = train.targets.take(tf.range(len(train.examples))).numpy()
            size = labels.shape[1]
        names = view_rows(train.digests, labels, views, drawn_from)
        return {**requests, "train": RowRequest(boundary.with_targets(size), train, names, views)}

    @functools.cached_property
    def _example(self) -> Structure:
        """Model inputs of one example, padded to the maximum length."""
        train = self._prepared["train"]
        if train.features is not None:
            return train.features.take(tf.constant([0], tf.int64))
        return next(iter(ordered_batches(train, 1)))["input"]

    def _find(self, below: int, requests: SplitRequests) -> bool:
        """Look for a boundary in memory and on disk; return whether all processes have it."""
        splits = self._rows.find_in_memory(requests)
        story = "read from memory"
        if splits is None and self._recipe.cache in ("auto", "disk"):
            splits = self._rows.find_on_disk(requests)
            size = megabytes(self._bytes(requests))
            story = f"found on disk, {size} in {self._rows.disk.folder}"
        if not self._devices.all_agree(splits is not None) or splits is None:
            return False
        self._hold(below, requests, StageInput(splits, True, story))
        return True

    def _hold(self, below: int, requests: SplitRequests, source: StageInput) -> None:
        self.held[below] = source
        self._keys[below] = {request.boundary.key for request in requests.values()}

    def _compute(self, current: int, missing: Sequence[tuple[SplitRequests, Location]]) -> None:
        """Compute boundaries in one pass and hold them.

        Args:
          current: The boundary of the current stage; the others are needed by later stages.
          missing: The rows to compute, and where to store them.

        Raises:
          NotCachedError: If the boundary of the current stage could not be stored.
        """
        result = self._rows.compute(missing)
        epochs = self._epochs([_boundary_below(requests) for requests, _ in missing])
        examples_per_epoch = sum(map(self._size_of, missing[0][0]))
        frozen_pass = {
            "seconds": result.seconds,
            "epoch_seconds": result.seconds * examples_per_epoch / max(1, result.examples),
        }
        for requests, location in missing:
            below = _boundary_below(requests)
            keys = [request.boundary.key for request in requests.values()]
            failures = [result.failures[key] for key in keys if key in result.failures]
            if failures:
                if below == current:
                    raise NotCachedError(self._reason(failures[0]))
                continue
            folder = self._rows.disk.folder
            if location == "memory":
                splits = self._rows.find_in_memory(requests)
            else:
                splits = self._rows.find_on_disk(requests, is_new=True)
            if splits is None:
                raise NotCachedError(f"the features written to {folder} cannot be found there")
            story = self._computed_story(result, epochs, requests, location)
            self._hold(below, requests, StageInput(splits, True, story, frozen_pass))

    def _computed_story(
        self, result: PassResult, epochs: int, requests: SplitRequests, location: Location
    ) -> str:
        count = self._devices.num_workers
        workers = f" by {count} workers" if count > 1 else ""
        where = "in memory" if location == "memory" else f"on disk in {self._rows.disk.folder}"
        return (
            f"computed once for {result.examples} examples in {result.seconds:.1f} s{workers}, "
            f"instead of in each of {epochs} epochs; {megabytes(self._bytes(requests))} {where}"
        )

    def _epochs(self, boundaries: Sequence[int]) -> int:
        """Return the maximum number of epochs in which stages read one of the boundaries."""
        size, batch_size = self._size_of("train"), self._recipe.data.batch_size
        stages = [stage for stage in self._recipe.stages if self._below(stage) in boundaries]
        return sum(stage_length(stage, size, batch_size).epochs for stage in stages)

    def _bytes(self, requests: SplitRequests) -> int:
        """Return the size of the rows of the whole splits."""
        return sum(
            self._size_of(name) * (request.views or 1) * request.boundary.row_size
            for name, request in requests.items()
        )

    def _size_of(self, split: str) -> int:
        """Return the number of rows of a whole split; some tasks read an example in parts."""
        return max(self._info.sizes[split], len(self._prepared[split].examples))

    def _reason(self, error: OSError) -> str:
        folder = self._rows.disk.folder
        if isinstance(error, SlowDiskError):
            return f"{error} ({folder})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full ({folder})"
        return f"{folder} cannot be written ({error.strerror or error})"


def _boundary_below(requests: SplitRequests) -> int:
    return requests["validation"].boundary.below
