"""Writes the inputs of a split to files, for a process that runs an exported file on them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.evaluation.inference import concatenate_padded
from sft_keras.export.converters import named_inputs

TIMED_BATCH_SIZES = (1, 32)
"""The batch sizes at which latency is measured."""
_MASK = "padding_mask"

Inputs = dict[str, Any]
"""Arrays by the names of the inputs."""


@dataclasses.dataclass(frozen=True)
class ProbeInputs:
    """The inputs of a split on disk, and the outputs that an exported file must reproduce.

    Attributes:
      folder: The folder of the batches, in the layout that `runtime_probe` reads.
      expected: Outputs of the trained model, float32 [n, num_classes], or [n, tokens, tags] with 0
        at padding.
      valid: Which rows of `expected` are not padding, bool [n] or [n, tokens].
    """

    folder: Path
    expected: np.ndarray
    valid: np.ndarray


def input_batches(batches: tf.data.Dataset) -> Iterator[Inputs]:
    """Yield the inputs of a split's batches, pixels as uint8 where that is lossless."""
    for batch in batches:
        yield {name: _compact(x.numpy()) for name, x in named_inputs(batch[0]).items()}


def text_batches(arguments: Mapping[str, np.ndarray], batch_size: int) -> Iterator[Inputs]:
    """Yield batches of texts, given as object arrays of bytes by argument, for `runtime_probe`."""
    # NumPy's fixed-width strings lose trailing zero bytes, so a full stop terminates each text.
    fixed = {name: np.array([text + b"." for text in texts]) for name, texts in arguments.items()}
    for start in range(0, len(next(iter(fixed.values()))), batch_size):
        yield {name: texts[start : start + batch_size] for name, texts in fixed.items()}


def write_probe_inputs(batches: Iterable[Inputs], outputs: np.ndarray, folder: Path) -> ProbeInputs:
    """Write the batches of a split into a new folder, see `write_batches`.

    Args:
      batches: The inputs of the split.
      outputs: The trained model's outputs for them.
      folder: The folder to create.
    """
    masks = write_batches(batches, folder)
    if outputs.ndim == 2:
        return ProbeInputs(folder, outputs, np.ones(len(outputs), bool))
    valid = concatenate_padded([mask[:, :, np.newaxis] for mask in masks])[:, :, 0] > 0
    return ProbeInputs(folder, outputs * valid[:, :, np.newaxis], valid)


def write_batches(batches: Iterable[Inputs], folder: Path) -> list[np.ndarray]:
    """Write all batches, and one batch per timed size. Return the padding masks of the batches."""
    folder.mkdir()
    masks: list[np.ndarray] = []
    first: list[Inputs] = []  # enough for the largest timed batch
    for number, inputs in enumerate(batches):
        np.savez(folder / f"batch-{number:06d}.npz", **inputs)
        if _MASK in inputs:
            masks.append(inputs[_MASK])
        if sum(_num_rows(earlier) for earlier in first) < max(TIMED_BATCH_SIZES):
            first.append(inputs)
    for size in TIMED_BATCH_SIZES:
        np.savez(folder / f"timed-{size:03d}.npz", **_batch_of_size(first, size))
    return masks


def _compact(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.float32:
        pixels = values.astype(np.uint8)
        return pixels if np.array_equal(pixels, values) else values
    return values


def _num_rows(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


def _batch_of_size(batches: list[Inputs], size: int) -> Inputs:
    """Return the first `size` examples as one batch, repeating them if there are fewer."""
    batch: Inputs = {}
    for name in batches[0]:
        parts = [inputs[name] for inputs in batches]
        if parts[0].dtype.kind == "i":  # token ids, padded to the longest text of their batch
            rows = concatenate_padded([part[:, :, np.newaxis] for part in parts])[:, :, 0]
        else:
            rows = np.concatenate(parts)
        batch[name] = rows[list(itertools.islice(itertools.cycle(range(len(rows))), size))]
    if _MASK in batch:
        longest = int(batch[_MASK].sum(axis=1).max())
        batch = {name: rows[:, :longest] for name, rows in batch.items()}
    return batch
