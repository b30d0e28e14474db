"""Finds the rows of boundaries in memory and on disk, and computes what is lacking in one pass."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from sft_keras.cache.boundary import Boundary
from sft_keras.cache.disk import Collection, DiskStore
from sft_keras.cache.extraction import Batch, Sink, as_model_input, run_pass, shared_out
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.request import Wanted
from sft_keras.core.reporter import Reporter
from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Features, Structure
from sft_keras.data.prepared import Prepared
from sft_keras.distributed.devices import ONE_DEVICE, Devices
from sft_keras.models.staged import StagedModel
from sft_keras.recipe.recipe import Recipe

Place = Literal["memory", "disk"]
WantedSplits = Mapping[str, Wanted]
"""The rows of one boundary, by split."""

# Share of the largest number by which a spot check may differ: bfloat16 rounds by less.
_SAME = 2e-2
# Seconds after which what another machine has written must be there: file systems of a network show
# a folder as it was up to a minute ago.
_SEEN_AFTER = 90.0


@dataclasses.dataclass(frozen=True)
class Pass:
    """What a pass over the data did.

    Attributes:
      examples: How many inputs were computed, each view counted, by all processes together.
      seconds: What computing them took.
      failures: {key of a collection: why it is not stored}.
    """

    examples: int
    seconds: float
    failures: Mapping[str, OSError]


class RowProvider:
    """Looks rows up, and computes them."""

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

    def find_in_memory(self, wanted: WantedSplits) -> dict[str, Prepared] | None:
        """Returns the splits if all rows are in memory."""
        found = {name: each.in_memory(self.memory) for name, each in wanted.items()}
        if any(features is None for features in found.values()):
            return None
        return {name: wanted[name].read_from(features) for name, features in found.items()}

    def find_on_disk(
        self, wanted: WantedSplits, is_new: bool = False
    ) -> dict[str, Prepared] | None:
        """Returns the splits if all rows are on disk.

        Args:
          wanted: The rows.
          is_new: Whether this process has written them. Otherwise the first of them is computed
            anew and compared, in case that something decides on it which no key covers.
        """
        found = self._on_disk(wanted, is_new)
        deadline = time.monotonic() + _SEEN_AFTER
        while is_new and self._devices.num_workers > 1 and None in found.values():
            if time.monotonic() > deadline:
                break
            time.sleep(1.0)
            found = self._on_disk(wanted, is_new)
        if None in found.values():
            return None
        splits = {name: wanted[name].read_from(features) for name, features in found.items()}
        if not is_new and not self._is_same(wanted["validation"], splits["validation"]):
            self._reporter.line(
                "cache  not what the network gives now, and computed again: "
                f"{wanted['validation'].boundary.about['boundary']} in {self.disk.folder}"
            )
            self.disk.delete(wanted["validation"].boundary.key)
            self.disk.delete(wanted["train"].boundary.key)
            self._forget(wanted)
            return None
        return splits

    def _on_disk(self, wanted: WantedSplits, is_new: bool) -> dict[str, Features | None]:
        if is_new:
            self._forget(wanted)
        return {name: each.on_disk(self._collection(each)) for name, each in wanted.items()}

    def is_mostly_on_disk(self, wanted: WantedSplits) -> bool:
        """Whether at least half of the rows are on disk."""
        if not all(any(self.disk.shards(each.boundary.key)) for each in wanted.values()):
            return False
        names = [each.names for each in wanted.values()]
        found = [self._collection(each).find(each.names) for each in wanted.values()]
        return 2 * sum((each >= 0).sum() for each in found) >= sum(map(len, names))

    def compute(self, lacking: Sequence[tuple[WantedSplits, Place]]) -> Pass:
        """Computes what is lacking of several boundaries in one traversal of the network.

        Each process computes its part of what any of them lacks, and all of them must ask for it.
        What one cannot write is left out, and said in the result.
        """
        todo = {name: self._todo(name, lacking) for name in lacking[0][0]}
        is_on_disk = any(place == "disk" for _, place in lacking)
        takes_all = is_on_disk and self._devices.num_workers > 1 and not self._is_disk_shared()
        counts: Counter[str] = Counter()
        targets: dict[str, tuple[Boundary, Place]] = {}
        for wanted, place in lacking:
            for name, each in wanted.items():
                counts[each.boundary.key] += len(todo[name])
                targets[each.boundary.key] = (each.boundary, place)
        sinks: dict[str, Sink] = {}
        total = sum(map(len, todo.values()))
        try:
            for key, target in targets.items():
                sinks[key] = self._sink(*target, counts[key], takes_all)
            seconds = self._run(lacking, todo, sinks, total)
            for sink in sinks.values():
                sink.commit()
        except KeyboardInterrupt:
            for sink in sinks.values():
                sink.keep()
            raise
        finally:
            for sink in sinks.values():
                sink.close()
        return Pass(total, seconds, self._failures(sinks))

    def _failures(self, sinks: Mapping[str, Sink]) -> dict[str, OSError]:
        """Returns what cannot be used since this process, or another, could not store it."""
        (failed,) = self._devices.all_gather(
            [[each.failure is not None for each in sinks.values()]]
        )
        return {
            key: sink.failure or OSError("by another worker")
            for (key, sink), is_failed in zip(sinks.items(), failed.any(axis=0))
            if is_failed
        }

    def _is_disk_shared(self) -> bool:
        """Whether all processes have the same folder on disk."""
        token = self._devices.all_gather([np.frombuffer(os.urandom(8), np.uint8)])[0][0]
        mark = self.disk.folder / f".shared-{token.tobytes().hex()}"
        with contextlib.suppress(OSError):  # What the chief cannot write is not shared.
            if self._devices.is_chief:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
        self._devices.barrier()
        is_shared = self._devices.all_agree(os.path.exists(mark))
        with contextlib.suppress(OSError):
            if self._devices.is_chief:
                mark.unlink()
        return is_shared

    def _run(
        self,
        lacking: Sequence[tuple[WantedSplits, Place]],
        todo: Mapping[str, np.ndarray],
        sinks: Mapping[str, Sink],
        total: int,
    ) -> float:
        store, blocks = self._recipe.store, self._staged.backbone.blocks
        boundaries = [wanted["validation"].boundary for wanted, _ in lacking]
        below = [boundary.below for boundary in boundaries]
        return run_pass(
            self._staged.prefix_model(below),
            self._batches(lacking, todo, sinks),
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
        self,
        lacking: Sequence[tuple[WantedSplits, Place]],
        todo: Mapping[str, np.ndarray],
        sinks: Mapping[str, Sink],
    ) -> Iterator[Batch]:
        recipe, size = self._recipe, self._recipe.store.batch_size
        splits = lacking[0][0]  # the rows of each boundary have the same names
        plain = [name for name in todo if splits[name].views is None and len(todo[name])]
        number = 0
        parts = [(splits[name], todo[name]) for name in plain]
        for names, inputs in shared_out(parts, size, self._devices):
            # Every split of a boundary has the same sink, but for one of views.
            yield Batch(names, inputs, [sinks[each[plain[0]].boundary.key] for each, _ in lacking])
            number += 1
        for name in todo:
            views = splits[name].views
            if views is None or not len(todo[name]):
                continue
            own = [sinks[each[name].boundary.key] for each, _ in lacking]
            # Texts at full length, so that they can be batched anew.
            whole = dataclasses.replace(splits[name].prepared, lengths=None)
            drawn = recipe.task.augmented_views(whole, recipe, self._info, views)
            for rows, batch, targets in with_options(drawn.rebatch(size)):
                is_own = self._devices.is_assigned(number)
                names = splits[name].names[rows.numpy()]
                yield Batch(names, batch if is_own else None, own, [targets])
                number += 1

    def _todo(self, name: str, lacking: Sequence[tuple[WantedSplits, Place]]) -> np.ndarray:
        """Returns the rows of a split to compute: what any of the boundaries lacks."""
        lacks = np.zeros(len(lacking[0][0][name].names), bool)
        for wanted, place in lacking:
            each = wanted[name]
            if place == "memory":
                found = self.memory.find(each.boundary.key, each.names)
            else:
                found = self._collection(each).find(each.names)
            lacks |= found < 0
        lacks = self._devices.sum_over_workers([lacks.astype(np.int32)])[0] > 0
        if lacking[0][0][name].views is not None:
            lacks[:] = lacks.any()  # a view is drawn in a batch with others
        return np.flatnonzero(lacks)

    def _sink(self, boundary: Boundary, place: Place, count: int, takes_all: bool) -> Sink:
        if place == "memory":
            return Sink(lambda: self.memory.writer(boundary.key, count), on_disk=False)
        return Sink(
            lambda: self.disk.writer(boundary.key, boundary.fields, boundary.about),
            on_disk=True,
            takes_all=takes_all,
            gives_up=self._recipe.cache == "auto",
        )

    def _collection(self, wanted: Wanted) -> Collection:
        key = wanted.boundary.key
        if key not in self._collections:
            self._collections[key] = self.disk.collection(key, wanted.boundary.fields)
        return self._collections[key]

    def _forget(self, wanted: WantedSplits) -> None:
        """Has the collections read again that were opened before something was written."""
        for each in wanted.values():
            self._collections.pop(each.boundary.key, None)

    def _is_same(self, wanted: Wanted, stored: Prepared) -> bool:
        """Compares the first row with what the network gives now."""
        batch = next(iter(ordered_batches(wanted.prepared, 1)))
        inputs = tf.nest.map_structure(as_model_input, batch["input"])
        outputs = self._staged.prefix_model([wanted.boundary.below])(inputs, training=False)
        rows = next(iter(ordered_batches(stored, 1)))["input"]
        return all(
            np.allclose(row, now, rtol=0.0, atol=_SAME * max(1e-6, np.abs(now).max()))
            for row, now in zip(_as_floats(rows), _as_floats(outputs), strict=True)
        )


def _as_floats(tensors: Structure) -> list[np.ndarray]:
    return [tf.cast(tensor, tf.float32).numpy() for tensor in tf.nest.flatten(tensors)]
