"""The one pass over the data: what the frozen blocks give for each example, handed to writers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.backbones.layers import iter_layers
from sft_keras.cache.memory import Writer
from sft_keras.cache.request import Wanted
from sft_keras.cache.stored_features import as_fields
from sft_keras.data.batches import ordered_batches, with_options
from sft_keras.data.bucketing import padded_length
from sft_keras.data.features import Structure
from sft_keras.data.streams import in_graph
from sft_keras.distributed.devices import ONE_DEVICE, Devices, pad_rows

_JUDGED_AFTER = 2**27  # bytes written, so that the disk's own buffers are full
_PUBLISHED_EVERY = (
    300.0  # seconds of a pass, which a process that dies has done in vain at the most
)


class SlowDiskError(OSError):
    """Writing takes longer than computing does."""


class Sink:
    """Where one boundary's rows go. It fails by itself: the pass and the other sinks go on.

    Attributes:
      failure: Why nothing was stored; None if all was.
      takes_all: Whether it takes the rows that other processes have computed too.
    """

    def __init__(
        self,
        begin: Callable[[], Writer],
        *,
        on_disk: bool,
        takes_all: bool = True,
        gives_up: bool = False,
    ) -> None:
        """`begin` makes the writer; `gives_up` where the disk is slower than computing."""
        self.failure: OSError | None = None
        self.takes_all = takes_all
        self._writer: Writer | None = None
        self._begin, self._on_disk, self._gives_up = begin, on_disk, gives_up
        self._seconds, self._bytes = 0.0, 0
        self._open()

    def append(self, names: np.ndarray, tensors: list[tf.Tensor], computing: float) -> None:
        """Writes rows; `computing` are the seconds that computing has taken so far."""
        if self.failure is not None:
            return
        began = time.perf_counter()
        arrays = as_fields(tensors) if self._on_disk else [each.numpy() for each in tensors]
        try:
            self._writer.append(names, arrays)
        except OSError as error:
            self._fail(error)
            return
        self._seconds += time.perf_counter() - began
        self._bytes += sum(array.nbytes for array in arrays)
        if self._on_disk and time.monotonic() - self._begun >= _PUBLISHED_EVERY:
            self.commit()
            self._open()
        if self._gives_up and self._bytes >= _JUDGED_AFTER and self._seconds > computing:
            self._fail(SlowDiskError("the disk is slower than computing anew"))

    def commit(self) -> None:
        """Makes the rows appear, unless something failed; on disk some may be there already."""
        if self.failure is None:
            try:
                self._writer.commit()
                self._writer = None
            except OSError as error:
                self._fail(error)

    def keep(self) -> None:
        """Makes the rows so far appear on disk, where a pass is broken off; in memory, nothing."""
        if self._on_disk and self._writer is not None:
            self.commit()

    def close(self) -> None:
        """Gives up what was written and not committed."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _open(self) -> None:
        self._begun = time.monotonic()
        if self.failure is None:
            try:
                self._writer = self._begin()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.close()


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some examples of the pass.

    Attributes:
      names: Of their rows, uint8 [m, DIGEST_SIZE].
      inputs: What the model reads, [m, ...]; None if another process computes them.
      sinks: Where the rows of each boundary go.
      extra: Tensors [m, ...] to be stored in each row beside what the prefix gives.
    """

    names: np.ndarray
    inputs: Structure | None
    sinks: Sequence[Sink]
    extra: Sequence[tf.Tensor] = ()


def run_pass(
    prefix: keras.Model,
    batches: Iterable[Batch],
    *,
    batch_size: int,
    stored: Sequence[Sequence[tf.TensorSpec]],
    in_bfloat16: Sequence[keras.Layer],
    progress: Callable[[int], None],
    devices: Devices = ONE_DEVICE,
) -> float:
    """Runs a prefix over batches and hands what it computes to their sinks.

    Args:
      prefix: From what the model reads to a list of boundaries, see
        `StagedModel.prefix_model`.
      batches: Of at most `batch_size` examples; those of the processes of `devices` in turn.
      batch_size: The prefix is always run on so many; the last batch is filled up, so that it is
        traced once and gives an example the same bits in any company.
      stored: What each boundary's tensors are stored as, in the order of `tf.nest.flatten`.
      in_bfloat16: Layers that are to compute in bfloat16.
      progress: Called with the number of examples done.
      devices: The processes that each compute their batches.

    Returns:
      The seconds that computing took in this process.
    """

    signature = keras.tree.map_structure(
        lambda tensor: tf.TensorSpec([batch_size, *tensor.shape[1:]], tensor.dtype), prefix.input
    )

    def rows(inputs: Structure) -> list[list[tf.Tensor]]:
        outputs = prefix(inputs, training=False)
        # A model of one output returns it bare, even where it was made with a list.
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return [
            [_as_stored(tensor, spec) for tensor, spec in zip(tf.nest.flatten(each), specs)]
            for each, specs in zip(outputs, stored, strict=True)
        ]

    compute = devices.trace(
        lambda *parts: devices.run_per_replica(rows, parts),
        [signature] * devices.num_local_replicas,
    )
    computing, done = 0.0, 0
    with _computing_in_bfloat16(in_bfloat16):
        for together in _in_turns(batches, devices):
            began = time.perf_counter()
            own = [
                pad_rows(tf.nest.map_structure(as_model_input, batch.inputs), batch_size)[0]
                for batch in together
                if batch.inputs is not None
            ]
            # All devices compute, if need be the same as another.
            parts = own + own[-1:] * (devices.num_local_replicas - len(own))
            outputs = compute(*parts)[: len(own)] if own else []
            computing += time.perf_counter() - began
            found = _rows_of(together, outputs, stored, batch_size, devices)
            for batch, of_boundaries in zip(together, found):
                for sink, tensors in zip(batch.sinks, of_boundaries, strict=True):
                    if tensors is not None:
                        filled = [tensor[: len(batch.names)] for tensor in tensors]
                        sink.append(batch.names, [*filled, *batch.extra], computing)
                done += len(batch.names)
            progress(done)
    return computing


def _in_turns(batches: Iterable[Batch], devices: Devices) -> Iterator[list[Batch]]:
    """Yields the batches that are computed at the same time; the last may be fewer.

    And the last of those of one shape, where they have to be of one.
    """
    together: list[Batch] = []
    for batch in batches:
        is_new = devices.needs_static_shapes and together and _shape(batch) != _shape(together[0])
        if is_new or len(together) == devices.num_replicas:
            yield together
            together = []
        together.append(batch)
    if together:
        yield together


def _shape(batch: Batch) -> list[tf.TensorShape]:
    return [each.shape[1:] for each in tf.nest.flatten(batch.inputs)]


_Rows = list[list[tf.Tensor] | None]
"""The tensors of a batch for each boundary, [batch_size, ...]; None for what is not stored here."""


def _rows_of(
    together: Sequence[Batch],
    outputs: Sequence[list[list[tf.Tensor]]],
    stored: Sequence[Sequence[tf.TensorSpec]],
    batch_size: int,
    devices: Devices,
) -> list[_Rows]:
    """Returns what this process stores of batches that were computed at the same time.

    Args:
      together: The batches.
      outputs: What this process has computed of them, in their order.
      stored: See `run_pass`.
      batch_size: See `run_pass`.
      devices: See `run_pass`.
    """
    found: list[_Rows] = [[None] * len(stored) for _ in together]
    own = [rows for rows, batch in zip(found, together) if batch.inputs is not None]
    for number, specs in enumerate(stored):
        if devices.num_workers == 1 or not together[0].sinks[number].takes_all:
            for rows, tensors in zip(own, outputs, strict=True):
                rows[number] = tensors[number]
            continue
        sent = [tf.zeros([batch_size, *spec.shape], spec.dtype) for spec in specs]
        if outputs:
            sent = outputs[0][number]
        gathered = devices.all_gather([tensor.numpy() for tensor in sent])
        for rows, *everyones in zip(found, *gathered):
            rows[number] = [tf.convert_to_tensor(each) for each in everyones]
    return found


def _as_stored(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Returns rows as they are stored: those of texts with zeros in the places left out."""
    if tensor.shape[1:] != spec.shape:
        missing = tf.maximum(0, spec.shape[0] - tf.shape(tensor)[1])
        tensor = tf.pad(tensor, [[0, 0], [0, missing], *[[0, 0]] * (spec.shape.rank - 1)])
    return tf.cast(tensor, spec.dtype)


def as_model_input(tensor: tf.Tensor) -> tf.Tensor:
    """Returns pixels, which are held as whole numbers, as floats; and all else as it is."""
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.uint8 else tensor


@contextlib.contextmanager
def _computing_in_bfloat16(layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Lets layers compute in bfloat16; their variables stay as they are."""
    parts: list[Any] = list(iter_layers(*layers))
    policies = [part.dtype_policy for part in parts]
    try:
        for part in parts:
            part.dtype_policy = "mixed_bfloat16"
        yield
    finally:
        for part, policy in zip(parts, policies):
            part.dtype_policy = policy


Parts = Sequence[tuple[Wanted, np.ndarray]]
"""Rows of some splits."""


def shared_out(
    parts: Parts, batch_size: int, devices: Devices
) -> Iterator[tuple[np.ndarray, Structure | None]]:
    """Yields batches of rows, of all parts as if they were one.

    So that only the last batch of all is smaller; of texts, the last of each padded length.

    Args:
      parts: The rows to compute.
      batch_size: Rows in a batch.
      devices: The processes that compute them.

    Yields:
      (names uint8 [m, DIGEST_SIZE]; what the model reads for them, [m, ...], or None for a batch
      that another process computes). Those that follow one another are of the processes in turn.
    """
    before = 0
    for group in _of_one_size(parts):
        names = np.concatenate([wanted.names[rows] for wanted, rows in group])
        numbers = before + np.arange(len(names)) // batch_size
        is_own = devices.is_assigned(numbers)
        own = _inputs(_chosen(group, is_own), batch_size)
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            yield batch, next(own) if is_own[start] else None
        before = numbers[-1] + 1


def _of_one_size(parts: Parts) -> Iterator[Parts]:
    """Returns the parts, or of texts those of each padded length by themselves.

    So that what is computed of a text depends on its own length alone, and not on those of others.
    """
    parts = [(wanted, rows) for wanted, rows in parts if len(rows)]
    lengths = [wanted.prepared.lengths for wanted, _ in parts]
    if not parts or lengths[0] is None:
        yield from [parts] if parts else []
        return
    padded = [
        padded_length(each[rows], wanted.prepared.pad_to_multiple_of)
        for each, (wanted, rows) in zip(lengths, parts)
    ]
    for length in np.unique(np.concatenate(padded)):
        chosen = [(wanted, rows[own == length]) for own, (wanted, rows) in zip(padded, parts)]
        yield [(wanted, rows) for wanted, rows in chosen if len(rows)]


def _chosen(parts: Parts, is_chosen: np.ndarray) -> Parts:
    """Returns some of the rows, by a flag for each of all parts' one after the other."""
    ends = np.cumsum([len(rows) for _, rows in parts])[:-1]
    flags = np.split(is_chosen, ends)
    chosen = [(wanted, rows[each]) for (wanted, rows), each in zip(parts, flags)]
    return [(wanted, rows) for wanted, rows in chosen if len(rows)]


def _inputs(parts: Parts, batch_size: int) -> Iterator[Structure]:
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


def _held_inputs(parts: Parts, batch_size: int) -> Iterator[Structure]:
    total = sum(len(rows) for _, rows in parts)
    for start in range(0, total, batch_size):
        pieces, before = [], 0
        for wanted, rows in parts:
            chosen = rows[max(0, start - before) : max(0, start + batch_size - before)]
            before += len(rows)
            if len(chosen):
                prepared, longest = wanted.prepared, None
                if prepared.lengths is not None:
                    own = prepared.lengths[chosen].max()
                    longest = padded_length(own, prepared.pad_to_multiple_of)
                pieces.append(prepared.features.take(tf.constant(chosen), longest))
        yield tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *pieces)
