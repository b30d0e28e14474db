"""A split, written down for a process that asks an exported file about it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.evaluation.inference import joined
from sft_keras.export.model_only import named_inputs

TIMED = (1, 32)
"""The sizes of the batches whose latency is measured."""
_MASK = "padding_mask"

Inputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Questions:
    """What an exported file is asked about a split, and what it must answer.

    Attributes:
      folder: Where they are written, as `asking` reads them.
      expected: Of the trained model, float32 [n, num_classes]; or [n, tokens, tags], 0 for padding.
      counted: Which rows of it count, bool [n] or [n, tokens].
    """

    folder: Path
    expected: np.ndarray
    counted: np.ndarray


def batches_of(batches: tf.data.Dataset) -> Iterator[Inputs]:
    """Yields the inputs of a split's batches, pixels as uint8 where that loses nothing."""
    for batch in batches:
        yield {name: _small(each.numpy()) for name, each in named_inputs(batch[0]).items()}


def served_batches(arguments: Mapping[str, np.ndarray], batch_size: int) -> Iterator[Inputs]:
    """Yields texts, object arrays of bytes by argument, as `asking` takes them."""
    # NumPy drops zeros at the end of strings: a full stop goes there.
    fixed = {name: np.array([each + b"." for each in all_]) for name, all_ in arguments.items()}
    for start in range(0, len(next(iter(fixed.values()))), batch_size):
        yield {name: each[start : start + batch_size] for name, each in fixed.items()}


def written(batches: Iterable[Inputs], outputs: np.ndarray, folder: Path) -> Questions:
    """Writes a split's batches into a new folder, see `write_batches`.

    Args:
      batches: Its inputs.
      outputs: The trained model's.
      folder: Where to write.
    """
    masks = write_batches(batches, folder)
    if outputs.ndim == 2:
        return Questions(folder, outputs, np.ones(len(outputs), bool))
    counted = joined([mask[:, :, np.newaxis] for mask in masks])[:, :, 0] > 0
    return Questions(folder, outputs * counted[:, :, np.newaxis], counted)


def write_batches(batches: Iterable[Inputs], folder: Path) -> list[np.ndarray]:
    """Writes batches, and those whose latency is measured; returns which tokens are no padding."""
    folder.mkdir()
    masks, first = [], []
    for number, inputs in enumerate(batches):
        np.savez(folder / f"batch-{number:06d}.npz", **inputs)
        if _MASK in inputs:
            masks.append(inputs[_MASK])
        if sum(map(_rows, first)) < max(TIMED):
            first.append(inputs)
    for size in TIMED:
        np.savez(folder / f"timed-{size:03d}.npz", **_of_size(first, size))
    return masks


def _small(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.float32:
        whole = values.astype(np.uint8)
        return whole if np.array_equal(whole, values) else values
    return values


def _rows(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


def _of_size(batches: list[Inputs], size: int) -> Inputs:
    """Returns the first `size` examples, again from the first if there are fewer."""
    found: dict[str, Any] = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        if parts[0].dtype.kind == "i":  # tokens, as long as the longest of each batch
            whole = joined([part[:, :, np.newaxis] for part in parts])[:, :, 0]
        else:
            whole = np.concatenate(parts)
        found[name] = whole[list(itertools.islice(itertools.cycle(range(len(whole))), size))]
    if _MASK in found:
        longest = int(found[_MASK].sum(axis=1).max())
        found = {name: each[:, :longest] for name, each in found.items()}
    return found
