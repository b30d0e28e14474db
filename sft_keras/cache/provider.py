"""Finds the rows of boundaries in memory and on disk, and computes what is lacking in one pass."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from sft_keras.cache.boundary import Boundary
from sft_keras.cache.disk import Collection, DiskStore
from sft_keras.cache.extraction import Batch, Sink, as_model_input, run_pass
from sft_keras.cache.memory import MemoryStore
from sft_keras.cache.wanted import Wanted
from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.examples import DataInfo
from sft_keras.data.features import Structure
from sft_keras.data.lengths import padded_length
from sft_keras.data.prepared import Prepared
from sft_keras.data.streams import in_graph
from sft_keras.recipe import Recipe
from sft_keras.staged_model import StagedModel

Place = Literal["memory", "disk"]
WantedSplits = Mapping[str, Wanted]
"""The rows of one boundary, by split."""

# Share of the largest number by which a spot check may differ: bfloat16 rounds by less.
_SAME = 2e-2


@dataclasses.dataclass(frozen=True)
class Pass:
    """What a pass over the data did.

    Attributes:
      examples: How many inputs were computed, each view counted.
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
        say: Callable[[str], None],
        tick: Callable[[str], None],
    ) -> None:
        self.memory, self.disk = memory, disk
        self._staged, self._recipe, self._info = staged, recipe, info
        self._say, self._tick = say, tick
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
        if is_new:
            self._forget(wanted)
        found = {name: each.on_disk(self._collection(each)) for name, each in wanted.items()}
        if any(features is None for features in found.values()):
            return None
        splits = {name: wanted[name].read_from(features) for name, features in found.items()}
        if not is_new and not self._is_same(wanted["validation"], splits["validation"]):
            self._say(
                "cache  not what the network gives now, and computed again: "
                f"{wanted['validation'].boundary.about['boundary']} in {self.disk.folder}"
            )
            self.disk.delete(wanted["validation"].boundary.key)
            self.disk.delete(wanted["train"].boundary.key)
            self._forget(wanted)
            return None
        return splits

    def is_mostly_on_disk(self, wanted: WantedSplits) -> bool:
        """Whether at least half of the rows are on disk."""
        if not all(any(self.disk.shards(each.boundary.key)) for each in wanted.values()):
            return False
        names = [each.names for each in wanted.values()]
        found = [self._collection(each).find(each.names) for each in wanted.values()]
        return 2 * sum((each >= 0).sum() for each in found) >= sum(map(len, names))

    def compute(self, lacking: Sequence[tuple[WantedSplits, Place]]) -> Pass:
        """Computes what is lacking of several boundaries in one traversal of the network.

        What cannot be written is left out, and said in the result.
        """
        todo = {name: self._todo(name, lacking) for name in lacking[0][0]}
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
                sinks[key] = self._sink(*target, counts[key])
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
        failures = {key: sink.failure for key, sink in sinks.items() if sink.failure is not None}
        return Pass(total, seconds, failures)

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
            self._staged.prefix_with_outputs(below),
            self._batches(lacking, todo, sinks),
            batch_size=store.batch_size,
            stored=[boundary.stored for boundary in boundaries],
            in_bfloat16=[
                layer
                for block in blocks[: max(below) if store.precision == "bfloat16" else 0]
                for layer in block.layers
            ],
            tick=lambda done: self._tick(f"computing the frozen blocks {done}/{total}"),
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
        for parts in _of_one_size([(splits[name], todo[name]) for name in plain]):
            # As one, so that only the last batch of all has to be filled up.
            own = [sinks[each[plain[0]].boundary.key] for each, _ in lacking]
            names = np.concatenate([wanted.names[rows] for wanted, rows in parts])
            start = 0
            for batch in _inputs(parts, size):
                end = start + len(tf.nest.flatten(batch)[0])
                yield Batch(names[start:end], batch, own)
                start = end
        for name in todo:
            views = splits[name].views
            if views is None or not len(todo[name]):
                continue
            own = [sinks[each[name].boundary.key] for each, _ in lacking]
            # Texts at full length, so that they can be batched anew.
            whole = dataclasses.replace(splits[name].prepared, lengths=None)
            drawn = recipe.task.augmented_views(whole, recipe, self._info, views)
            for rows, batch, targets in with_options(drawn.rebatch(size)):
                yield Batch(splits[name].names[rows.numpy()], batch, own, [targets])

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
        if lacking[0][0][name].views is not None:
            lacks[:] = lacks.any()  # a view is drawn in a batch with others
        return np.flatnonzero(lacks)

    def _sink(self, boundary: Boundary, place: Place, count: int) -> Sink:
        if place == "memory":
            return Sink(lambda: self.memory.writer(boundary.key, count), on_disk=False)
        return Sink(
            lambda: self.disk.writer(boundary.key, boundary.fields, boundary.about),
            on_disk=True,
            gives_up=self._recipe.cache == "auto",
        )

    def _collection(self, wanted: Wanted) -> Collection:
        key = wanted.boundary.key
        if key not in self._collections:
            self._collections[key] = self.disk.collection(
                key, wanted.boundary.fields, lambda line: self._tick(f"checking {line}")
            )
        return self._collections[key]

    def _forget(self, wanted: WantedSplits) -> None:
        """Has the collections read again that were opened before something was written."""
        for each in wanted.values():
            self._collections.pop(each.boundary.key, None)

    def _is_same(self, wanted: Wanted, stored: Prepared) -> bool:
        """Compares the first row with what the network gives now."""
        batch = next(iter(ordered_batches(wanted.prepared, 1)))
        inputs = tf.nest.map_structure(as_model_input, batch["input"])
        outputs = self._staged.prefix_with_outputs([wanted.boundary.below])(inputs, training=False)
        rows = next(iter(ordered_batches(stored, 1)))["input"]
        return all(
            np.allclose(row, now, rtol=0.0, atol=_SAME * max(1e-6, np.abs(now).max()))
            for row, now in zip(_as_floats(rows), _as_floats(outputs), strict=True)
        )


_Parts = Sequence[tuple[Wanted, np.ndarray]]
"""Rows of some splits."""


def _of_one_size(parts: _Parts) -> Iterator[_Parts]:
    """Returns the parts, or of texts those of each padded length by themselves.

    So that what is computed of a text depends on its own length alone, and not on those of others.
    """
    lengths = [wanted.prepared.lengths for wanted, _ in parts]
    if not parts or lengths[0] is None:
        yield from [parts] if parts else []
        return
    padded = [padded_length(each[rows]) for each, (_, rows) in zip(lengths, parts)]
    for length in np.unique(np.concatenate(padded)):
        chosen = [(wanted, rows[own == length]) for own, (wanted, rows) in zip(padded, parts)]
        yield [(wanted, rows) for wanted, rows in chosen if len(rows)]


def _inputs(parts: _Parts, batch_size: int) -> Iterator[Structure]:
    """Yields batches of what the model reads for some rows of several splits, in that order."""
    if all(wanted.prepared.features is not None for wanted, _ in parts):
        # Without a data set, of which making one takes longer than all it does.
        yield from _held_inputs(parts, batch_size)
        return
    inputs = [
        ordered_batches(wanted.prepared, batch_size, rows).map(
            in_graph(lambda batch: batch["input"])
        )
        for wanted, rows in parts
    ]
    joined = functools.reduce(tf.data.Dataset.concatenate, inputs)
    yield from with_options(joined.rebatch(batch_size))


def _held_inputs(parts: _Parts, batch_size: int) -> Iterator[Structure]:
    total = sum(len(rows) for _, rows in parts)
    for start in range(0, total, batch_size):
        pieces, before = [], 0
        for wanted, rows in parts:
            chosen = rows[max(0, start - before) : max(0, start + batch_size - before)]
            before += len(rows)
            if len(chosen):
                lengths = wanted.prepared.lengths
                longest = None if lengths is None else padded_length(lengths[chosen].max())
                pieces.append(wanted.prepared.features.take(tf.constant(chosen), longest))
        yield tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *pieces)


def _as_floats(tensors: Structure) -> list[np.ndarray]:
    return [tf.cast(tensor, tf.float32).numpy() for tensor in tf.nest.flatten(tensors)]
