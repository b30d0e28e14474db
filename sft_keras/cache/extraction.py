"""The pass over the data: run the frozen blocks once per example and write their outputs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sft_keras.backbones.layers import iter_layers
from sft_keras.cache.sink import Sink
from sft_keras.data.features import Structure
from sft_keras.distributed.devices import ONE_DEVICE, Devices, pad_rows

_StoredSpecs = Sequence[Sequence[tf.TensorSpec]]
"""For each boundary, the stored shape (without the batch) and dtype of each of its tensors."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some examples of the pass.

    Attributes:
      names: Row names, uint8 [m, DIGEST_SIZE].
      inputs: Model inputs, [m, ...]; None if another process computes them.
      sinks: Destination of each boundary's rows.
      extra: Tensors [m, ...] to store in each row after the outputs of the prefix.
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
    stored: _StoredSpecs,
    in_bfloat16: Sequence[keras.Layer],
    progress: Callable[[int], None],
    devices: Devices = ONE_DEVICE,
) -> float:
    """Run a prefix over batches and write its outputs to their sinks.

    Args:
      prefix: Model from inputs to a list of boundaries, see `StagedModel.prefix_model`.
      batches: Batches of at most `batch_size` examples; the processes of `devices` compute them in
        turn.
      batch_size: The prefix always runs on this many examples, with the last batch filled up, so
        that it is traced once and an example gets the same bits in any batch.
      stored: For each boundary, how its tensors are stored, in the order of `tf.nest.flatten`.
      in_bfloat16: Layers to compute in bfloat16.
      progress: Called with the number of finished examples.
      devices: The processes that share the work.

    Returns:
      The seconds that this process spent computing.
    """
    compute = _traced_prefix(prefix, batch_size, stored, devices)
    seconds, done = 0.0, 0
    with _computing_in_bfloat16(in_bfloat16):
        for concurrent in _in_turns(batches, devices):
            start = time.perf_counter()
            outputs = compute([batch.inputs for batch in concurrent if batch.inputs is not None])
            seconds += time.perf_counter() - start
            rows = _rows_to_store(concurrent, outputs, stored, batch_size, devices)
            for batch, boundaries in zip(concurrent, rows):
                for sink, tensors in zip(batch.sinks, boundaries, strict=True):
                    if tensors is not None:
                        unpadded = [tensor[: len(batch.names)] for tensor in tensors]
                        sink.append(batch.names, [*unpadded, *batch.extra], seconds)
                done += len(batch.names)
            progress(done)
    return seconds


def _traced_prefix(
    prefix: keras.Model, batch_size: int, stored: _StoredSpecs, devices: Devices
) -> Callable[[Sequence[Structure]], Sequence[list[list[tf.Tensor]]]]:
    """Return a function from up to one batch of inputs per local device to their stored tensors."""
    signature = keras.tree.map_structure(
        lambda tensor: tf.TensorSpec([batch_size, *tensor.shape[1:]], tensor.dtype), prefix.input
    )

    def rows(inputs: Structure) -> list[list[tf.Tensor]]:
        outputs = prefix(inputs, training=False)
        # A model with one output returns it bare, even if it was built with a list.
        boundaries = outputs if isinstance(outputs, list) else [outputs]
        return [
            [_as_stored(tensor, spec) for tensor, spec in zip(tf.nest.flatten(boundary), specs)]
            for boundary, specs in zip(boundaries, stored, strict=True)
        ]

    traced = devices.trace(
        lambda *parts: devices.run_per_replica(rows, parts),
        [signature] * devices.num_local_replicas,
    )

    def compute(inputs: Sequence[Structure]) -> Sequence[list[list[tf.Tensor]]]:
        if not inputs:
            return []
        parts = [
            pad_rows(tf.nest.map_structure(as_model_input, part), batch_size)[0] for part in inputs
        ]
        # Every device computes; surplus devices repeat the last batch.
        surplus = devices.num_local_replicas - len(parts)
        return traced(*parts, *parts[-1:] * surplus)[: len(parts)]

    return compute


def _in_turns(batches: Iterable[Batch], devices: Devices) -> Iterator[list[Batch]]:
    """Yield the batches that are computed concurrently; the last group may be smaller.

    Where shapes are compiled, a group ends with its shape, because all devices need the same one.
    """
    group: list[Batch] = []
    for batch in batches:
        is_new_shape = devices.needs_static_shapes and group and _shape(batch) != _shape(group[0])
        if is_new_shape or len(group) == devices.num_replicas:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def _shape(batch: Batch) -> list[tf.TensorShape]:
    return [tensor.shape[1:] for tensor in tf.nest.flatten(batch.inputs)]


_Rows = list[list[tf.Tensor] | None]
"""For each boundary, the tensors [batch_size, ...] of a batch; None if not stored here."""


def _rows_to_store(
    concurrent: Sequence[Batch],
    outputs: Sequence[list[list[tf.Tensor]]],
    stored: _StoredSpecs,
    batch_size: int,
    devices: Devices,
) -> list[_Rows]:
    """Return what this process stores of batches that were computed concurrently.

    Args:
      concurrent: The batches.
      outputs: The outputs of those that this process has computed, in their order.
      stored: See `run_pass`.
      batch_size: See `run_pass`.
      devices: See `run_pass`.
    """
    rows: list[_Rows] = [[None] * len(stored) for _ in concurrent]
    local = [row for row, batch in zip(rows, concurrent) if batch.inputs is not None]
    for number, specs in enumerate(stored):
        if devices.num_workers == 1 or not concurrent[0].sinks[number].takes_all:
            for row, tensors in zip(local, outputs, strict=True):
                row[number] = tensors[number]
            continue
        sent = [tf.zeros([batch_size, *spec.shape], spec.dtype) for spec in specs]
        if outputs:
            sent = outputs[0][number]
        gathered = devices.all_gather([tensor.numpy() for tensor in sent])
        for row, *arrays in zip(rows, *gathered):
            row[number] = [tf.convert_to_tensor(array) for array in arrays]
    return rows


def _as_stored(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Return rows as stored, with sequences padded with zeros to the stored length."""
    if tensor.shape[1:] != spec.shape:
        missing = tf.maximum(0, spec.shape[0] - tf.shape(tensor)[1])
        tensor = tf.pad(tensor, [[0, 0], [0, missing], *[[0, 0]] * (spec.shape.rank - 1)])
    return tf.cast(tensor, spec.dtype)


def as_model_input(tensor: tf.Tensor) -> tf.Tensor:
    """Return pixels, which are kept as uint8, as float32, and other tensors unchanged."""
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.uint8 else tensor


@contextlib.contextmanager
def _computing_in_bfloat16(layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Context manager: let layers compute in bfloat16; their variables keep their dtype."""
    sublayers: list[Any] = list(iter_layers(*layers))
    policies = [sublayer.dtype_policy for sublayer in sublayers]
    try:
        for sublayer in sublayers:
            sublayer.dtype_policy = "mixed_bfloat16"
        yield
    finally:
        for sublayer, policy in zip(sublayers, policies):
            sublayer.dtype_policy = policy
