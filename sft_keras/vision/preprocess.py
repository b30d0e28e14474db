"""Decode every image once, before training: find unreadable files and cache the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import psutil
import tensorflow as tf

from sft_keras.core.errors import UnreadableError, numbered
from sft_keras.data.batches import with_options
from sft_keras.data.examples import Examples
from sft_keras.data.features import InMemoryFeatures
from sft_keras.data.fingerprint import DIGEST_SIZE, digest
from sft_keras.data.prepared import Prepared
from sft_keras.data.service.numbered_batches import NumberedBatches
from sft_keras.data.service.preflight import require_identical_reads
from sft_keras.data.streams import THREADS, in_graph
from sft_keras.vision.decode import Fit, read_pixels
from sft_keras.vision.faults import first_line, undecodable_reason
from sft_keras.vision.transparency import Background

_BATCH = 16
_MAX_LISTED = 20


def prepare_images(
    examples_by_split: Mapping[str, Examples],
    image_size: tuple[int, int],
    fit: Fit,
    memory_share: float,
    progress: Callable[[int, int], None],
    background: Background = "white",
) -> dict[str, Prepared]:
    """Decode every example once, in parallel, and return the splits, ready to be batched.

    Args:
      examples_by_split: The splits; if they do not all fit in memory, the first ones are kept.
      image_size: (height, width) in pixels.
      fit: How images are resized, as in `resize_image`.
      memory_share: Share of the free memory that pixels may occupy, 0..1. At most half of it is
        used, because a split is in memory twice while it is converted to tensors.
      progress: Called with (done, total) examples over all splits.
      background: The colour behind transparent pixels.

    Raises:
      UnreadableError: If examples of any split cannot be decoded; lists all of them.
      DataServiceError: If the data service fails, or reads other pixels than this process.
    """
    total = sum(len(examples) for examples in examples_by_split.values())
    budget = min(memory_share, 0.5) * psutil.virtual_memory().available

    def read(example: dict[str, tf.Tensor]) -> tf.Tensor:
        return read_pixels(example["image"], image_size, fit, background)

    first = next(iter(examples_by_split.values()))
    if first.service is not None:
        require_identical_reads(first.service, NumberedBatches.in_stored_order(first, read, _BATCH))
    prepared: dict[str, Prepared] = {}
    unread: list[tuple[Examples, np.ndarray]] = []
    done = 0
    for name, examples in examples_by_split.items():
        size = len(examples) * image_size[0] * image_size[1] * 3
        fits = size <= budget
        budget -= size if fits else 0

        def advance(count: int, before: int = done) -> None:
            progress(before + count, total)

        pixels = np.empty((len(examples), *image_size, 3), np.uint8) if fits else None
        digests, missing = _read_once(examples, read, pixels, advance)
        done += len(examples)
        unread.append((examples, missing))
        features = None if pixels is None else InMemoryFeatures.from_arrays(pixels)
        prepared[name] = Prepared(examples, features, read, digests)
    _require_all_read(unread)
    return prepared


def _read_once(
    examples: Examples,
    read: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    pixels: np.ndarray | None,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Decode a split once.

    Args:
      examples: The split.
      read: Maps an element of its stream to pixels, uint8 [height, width, 3].
      pixels: uint8 [n, height, width, 3], filled with the decoded images; None to discard them.
      advance: Called with the number of images decoded so far.

    Returns:
      (the hash of each image's pixels, uint8 [n, DIGEST_SIZE]; the indices of unreadable images).
    """
    digests = np.zeros((len(examples), DIGEST_SIZE), np.uint8)
    is_read = np.zeros(len(examples), bool)
    for indices, images in with_options(_readable(examples, read)).as_numpy_iterator():
        is_read[indices] = True
        if pixels is not None:
            pixels[indices] = images
        for index, image in zip(indices, images):
            digests[index] = np.frombuffer(digest(image), np.uint8)
        advance(int(is_read.sum()))
    advance(len(examples))
    return digests, np.flatnonzero(~is_read)


def _readable(
    examples: Examples, read: Callable[[dict[str, tf.Tensor]], tf.Tensor]
) -> tf.data.Dataset:
    """Return batches of (indices, images), without unreadable images."""
    if examples.service is not None:
        numbered = NumberedBatches.in_stored_order(examples, read, _BATCH)
        batches = examples.service.batches(numbered, 0, numbered.steps, require_all=False)
        return batches.map(in_graph(lambda batch: (batch["index"], batch["input"])))
    # Failures are dropped: good images run no Python, and every bad one shows by its absence.
    dataset = examples.stream(None).map(
        in_graph(lambda example: (example["index"], read(example))), num_parallel_calls=THREADS
    )
    return dataset.ignore_errors().batch(_BATCH)


def _require_all_read(unread: list[tuple[Examples, np.ndarray]]) -> None:
    reasons_by_split = {
        examples.name: {
            examples.ids[index]: reason for index, reason in _reasons(examples, missing).items()
        }
        for examples, missing in unread
        if len(missing)
    }
    if not reasons_by_split:
        return
    faults = [
        f"{id_} ({name}): {reason}"
        for name, reasons in reasons_by_split.items()
        for id_, reason in reasons.items()
    ]
    more = f"\n  ... and {len(faults) - _MAX_LISTED} more." if len(faults) > _MAX_LISTED else ""
    headline = (
        f"{len(faults)} images cannot be read. Fix or remove them, or exclude them with "
        "--exclude=FILE; python -m sft_keras.check writes such a file."
    )
    raise UnreadableError(numbered(headline, faults[:_MAX_LISTED]) + more, reasons_by_split)


def _reasons(examples: Examples, indices: np.ndarray) -> dict[int, str]:
    """Read the examples at `indices` again, one by one; return what is wrong with each."""
    is_selected = np.zeros(len(examples), bool)
    is_selected[indices] = True
    selected = tf.constant(is_selected)
    reasons: dict[int, str] = {}
    failure = "it could not be read a second time either"
    transient = "failed once and could then be read: the storage may be unreliable"
    if examples.service is not None:
        transient = "readable here, but not by the data service: do its workers see the same disk?"
    retried = iter(examples.stream(None).filter(lambda example: selected[example["index"]]))
    for _ in range(len(examples) + 1):  # Each iteration consumes one example or ends.
        try:
            example = next(retried)
        except StopIteration:
            break
        except tf.errors.OpError as error:  # The file itself cannot be read.
            failure = first_line(error)
            continue
        index = int(example["index"])
        reason = undecodable_reason(example["image"].numpy())
        if reason is None and examples.service is not None and examples.paths is not None:
            # Its workers read the file itself, this process converts it.
            reason = undecodable_reason(Path(examples.paths[index]).read_bytes())
        reasons[index] = reason or transient
    return {int(index): reasons.get(int(index), failure) for index in indices}
