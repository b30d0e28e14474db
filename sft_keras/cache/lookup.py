"""Look up the rows of boundaries in memory and on disk, and compute missing rows in one pass."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from sft_keras.cache.boundary import Boundary
from sft_keras.cache.disk import Collection, DiskStore
from sft_keras.cache.extraction import Batch, as_model_input, run_pass
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.pass_batches import pass_batches
from sft_keras.cache.placement import Location
from sft_keras.cache.row_request import RowRequest, SplitRequests
from sft_keras.cache.sink import Sink
from sft_keras.core.reporter import Reporter
from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Features, Structure
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe
from sft_keras.tasks.base import build_task

Missing = Sequence[tuple[SplitRequests, Location]]
"""Boundaries with missing rows, and where each is to be stored. All have the same row names."""

# Tolerance of a spot check, as a share of the largest value; bfloat16 rounding stays below it.
_TOLERANCE = 2e-2
# Seconds until rows written by another machine must be visible: network file systems may show a
# folder as it was up to a minute ago.
_VISIBLE_AFTER = 90.0


@dataclasses.dataclass(frozen=True)
class PassResult:
    """The outcome of a pass over the data.

    Attributes:
      examples: Number of inputs computed by all processes together; every view counts.
      seconds: Time that computing took.
      failures: {collection key: error because of which it was not stored}.
    """

    examples: int
    seconds: float
    failures: Mapping[str, OSError]


class RowProvider:
    """Looks up rows in memory and on disk, and computes missing ones.

    Attributes:
      memory: The cache in memory.
      disk: The cache on disk.
    """

    def __init__(
        self,
        staged: StagedModel,
        recipe: Recipe,
        info: DataInfo,
        memory: MemoryStore,
        disk: DiskStore,
        reporter: Reporter,
        devices: Devices = ONE_DEVICE,
    ) -> None:
        self.memory, self.disk = memory, disk
        self._staged, self._recipe, self._info = staged, recipe, info
        self._reporter, self._devices = reporter, devices
        self._collections: dict[str, Collection] = {}

    def find_in_memory(self, requests: SplitRequests) -> dict[str, Prepared] | None:
        """Return the splits with cached features, or None unless all rows are in memory."""
        features = {name: request.in_memory(self.memory) for name, request in requests.items()}
        return _with_features(requests, features)

    def find_on_disk(
        self, requests: SplitRequests, is_new: bool = False
    ) -> dict[str, Prepared] | None:
        """Return the splits with cached features, or None unless all rows are on disk.

        Args:
          requests: The rows.
          is_new: Whether this run has just written them. Otherwise the first row is recomputed and
            compared, in case something affects the features that the key does not cover.
        """
        features = self._on_disk(requests, is_new)
        deadline = time.monotonic() + _VISIBLE_AFTER
        while is_new and self._devices.num_workers > 1 and None in features.values():
            if time.monotonic() > deadline:
                break
            time.sleep(1.0)
            features = self._on_disk(requests, is_new)
        splits = _with_features(requests, features)
        if splits is None:
            return None
        validation = requests["validation"]
        if not is_new and not self._matches(validation, splits["validation"]):
            self._reporter.line(
                "cache  does not match the current output of the network, will be computed again: "
                f"{validation.boundary.about['boundary']} in {self.disk.folder}"
            )
            self.disk.delete(validation.boundary.key)
            self.disk.delete(requests["train"].boundary.key)
            self._forget(requests)
            return None
        return splits

    def _on_disk(self, requests: SplitRequests, is_new: bool) -> dict[str, Features | None]:
        if is_new:
            self._forget(requests)
        return {
            name: request.on_disk(self._collection(request)) for name, request in requests.items()
        }

    def is_mostly_on_disk(self, requests: SplitRequests) -> bool:
        """Return whether at least half of the rows are on disk."""
        if not all(any(self.disk.shards(request.boundary.key)) for request in requests.values()):
            return False
        total = sum(len(request.names) for request in requests.values())
        rows = [self._collection(request).find(request.names) for request in requests.values()]
        return 2 * sum((numbers >= 0).sum() for numbers in rows) >= total

    def compute(self, missing: Missing) -> PassResult:
        """Compute the missing rows of several boundaries in one pass over the data.

        Each process computes its share of the rows that any process lacks, so all of them must
        call this with the same boundaries. A write error ends up in the result's `failures`.
        """
        todo = {name: self._missing_rows(name, missing) for name in missing[0][0]}
        is_on_disk = any(location == "disk" for _, location in missing)
        takes_all = is_on_disk and self._devices.num_workers > 1 and not self._is_disk_shared()
        counts: Counter[str] = Counter()
        targets: dict[str, tuple[Boundary, Location]] = {}
        for requests, location in missing:
            for name, request in requests.items():
                counts[request.boundary.key] += len(todo[name])
                targets[request.boundary.key] = (request.boundary, location)
        sinks: dict[str, Sink] = {}
        total = sum(map(len, todo.values()))
        try:
            for key, target in targets.items():
                sinks[key] = self._sink(*target, counts[key], takes_all)
            seconds = self._run(missing, todo, sinks, total)
            for sink in sinks.values():
                sink.commit()
        except KeyboardInterrupt:
            for sink in sinks.values():
                sink.keep()
            raise
        finally:
            for sink in sinks.values():
                sink.close()
        return PassResult(total, seconds, self._failures(sinks))

    def _failures(self, sinks: Mapping[str, Sink]) -> dict[str, OSError]:
        """Return the collections that this process, or another one, could not store."""
        (failed,) = self._devices.all_gather(
            [[sink.failure is not None for sink in sinks.values()]]
        )
        return {
            key: sink.failure or OSError("by another worker")
            for (key, sink), is_failed in zip(sinks.items(), np.any(failed, axis=0).tolist())
            if is_failed
        }

    def _is_disk_shared(self) -> bool:
        """Return whether all processes see the same cache folder."""
        token = self._devices.all_gather([np.frombuffer(os.urandom(8), np.uint8)])[0][0]
        marker = self.disk.folder / f".shared-{token.tobytes().hex()}"
        with contextlib.suppress(OSError):  # A folder that the chief cannot write is not shared.
            if self._devices.is_chief:
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.touch()
        self._devices.barrier()
        is_shared = self._devices.all_agree(os.path.exists(marker))
        with contextlib.suppress(OSError):
            if self._devices.is_chief:
                marker.unlink()
        return is_shared

    def _run(
        self,
        missing: Missing,
        todo: Mapping[str, np.ndarray],
        sinks: Mapping[str, Sink],
        total: int,
    ) -> float:
        store, blocks = self._recipe.store, self._staged.backbone.blocks
        boundaries = [requests["validation"].boundary for requests, _ in missing]
        below = [boundary.below for boundary in boundaries]
        return run_pass(
            self._staged.prefix_model(below),
            self._batches(missing, todo, sinks),
            batch_size=store.batch_size,
            stored=[boundary.stored for boundary in boundaries],
            in_bfloat16=[
                layer
                for block in blocks[: max(below) if store.precision == "bfloat16" else 0]
                for layer in block.layers
            ],
            progress=lambda done: self._reporter.progress(
                f"computing the frozen blocks {done}/{total}"
            ),
            devices=self._devices,
        )

    def _batches(
        self, missing: Missing, todo: Mapping[str, np.ndarray], sinks: Mapping[str, Sink]
    ) -> Iterator[Batch]:
        """Yield the batches of a pass: plain splits first, then augmented views."""
        recipe, size = self._recipe, self._recipe.store.batch_size
        splits = missing[0][0]  # the row names are the same at every boundary
        plain = [name for name in todo if splits[name].views is None and len(todo[name])]
        number = 0
        parts = [(splits[name], todo[name]) for name in plain]
        for names, inputs in pass_batches(parts, size, self._devices):
            # All plain splits of a boundary share one sink.
            batch_sinks = [sinks[requests[plain[0]].boundary.key] for requests, _ in missing]
            yield Batch(names, inputs, batch_sinks)
            number += 1
        for name in todo:
            views = splits[name].views
            if views is None or not len(todo[name]):
                continue
            view_sinks = [sinks[requests[name].boundary.key] for requests, _ in missing]
            # Texts at full length, so that they can be rebatched.
            full_length = dataclasses.replace(splits[name].prepared, lengths=None)
            task = build_task(recipe, self._info)
            drawn = task.batches.augmented_views(full_length, views)
            for rows, inputs, targets in with_options(drawn.rebatch(size)):
                is_local = self._devices.is_assigned(number)
                names = splits[name].names[rows.numpy()]
                yield Batch(names, inputs if is_local else None, view_sinks, [targets])
                number += 1

    def _missing_rows(self, name: str, missing: Missing) -> np.ndarray:
        """Return the rows of a split that any boundary lacks in any process, int64 [m]."""
        is_missing = np.zeros(len(missing[0][0][name].names), bool)
        for requests, location in missing:
            request = requests[name]
            if location == "memory":
                rows = self.memory.find(request.boundary.key, request.names)
            else:
                rows = self._collection(request).find(request.names)
            is_missing |= rows < 0
        is_missing = self._devices.sum_over_workers([is_missing.astype(np.int32)])[0] > 0
        if missing[0][0][name].views is not None:
            is_missing[:] = is_missing.any()  # a view depends on the others of its batch
        return np.flatnonzero(is_missing)

    def _sink(self, boundary: Boundary, location: Location, count: int, takes_all: bool) -> Sink:
        if location == "memory":
            return Sink(lambda: self.memory.writer(boundary.key, count), on_disk=False)
        return Sink(
            lambda: self.disk.writer(boundary.key, boundary.fields, boundary.about),
            on_disk=True,
            takes_all=takes_all,
            gives_up=self._recipe.cache == "auto",
        )

    def _collection(self, request: RowRequest) -> Collection:
        key = request.boundary.key
        if key not in self._collections:
            self._collections[key] = self.disk.collection(key, request.boundary.fields)
        return self._collections[key]

    def _forget(self, requests: SplitRequests) -> None:
        """Drop collections that were opened before rows were written, to reopen them."""
        for request in requests.values():
            self._collections.pop(request.boundary.key, None)

    def _matches(self, request: RowRequest, stored: Prepared) -> bool:
        """Return whether the first stored row matches the current output of the network."""
        batch = next(iter(ordered_batches(request.prepared, 1)))
        inputs = tf.nest.map_structure(as_model_input, batch["input"])
        prefix = self._staged.prefix_model([request.boundary.below])
        outputs = prefix(inputs, training=False)
        rows = next(iter(ordered_batches(stored, 1)))["input"]
        return all(
            np.allclose(row, output, rtol=0.0, atol=_TOLERANCE * max(1e-6, np.abs(output).max()))
            for row, output in zip(_as_floats(rows), _as_floats(outputs), strict=True)
        )


def _with_features(
    requests: SplitRequests, features: Mapping[str, Features | None]
) -> dict[str, Prepared] | None:
    """Return the splits with cached features, or None if any features are missing."""
    splits = {
        name: requests[name].with_features(split_features)
        for name, split_features in features.items()
        if split_features is not None
    }
    return splits if len(splits) == len(features) else None


def _as_floats(tensors: Structure) -> list[np.ndarray]:
    return [tf.cast(tensor, tf.float32).numpy() for tensor in tf.nest.flatten(tensors)]
