"""Decodes every image once, before training: finds what cannot be read, keeps the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

_BATCH = 16
_NAMED = 20


def prepare_images(
    examples_by_split: Mapping[str, Examples],
    image_size: tuple[int, int],
    fit: Fit,
    memory_share: float,
    progress: Callable[[int, int], None],
) -> dict[str, Prepared]:
    """Decodes every example once, in parallel.

    Args:
      examples_by_split: The splits; where memory does not hold all, the first are kept.
      image_size: (height, width) in pixels.
      fit: See `resize_image`.
      memory_share: Share of the free memory that pixels may take, 0..1. At most half of it is
        used, since a split is there twice while it is moved to TensorFlow.
      progress: Called with (done, total) examples over all splits.

    Raises:
      UnreadableError: Naming the examples, over all splits, that cannot be decoded.
      DataServiceError: If a service that is to read them does not, or not as this process would.
    """
    total = sum(len(examples) for examples in examples_by_split.values())
    budget = min(memory_share, 0.5) * psutil.virtual_memory().available

    def read(example: dict[str, tf.Tensor]) -> tf.Tensor:
        return read_pixels(example["image"], image_size, fit)

    first = next(iter(examples_by_split.values()))
    if first.service is not None:
        require_identical_reads(first.service, NumberedBatches.in_stored_order(first, read, _BATCH))
    prepared: dict[str, Prepared] = {}
    unread: list[tuple[Examples, np.ndarray]] = []
    done = 0
    for name, examples in examples_by_split.items():
        size = len(examples) * image_size[0] * image_size[1] * 3
        kept = size <= budget
        budget -= size if kept else 0
        before = done

        def advance(count: int, before: int = before) -> None:
            progress(before + count, total)

        pixels = np.empty((len(examples), *image_size, 3), np.uint8) if kept else None
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
    """Decodes a split into `pixels`, if given.

    Returns:
      (the hash of each image's pixels, the indices of what could not be decoded).
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
    """Returns batches of (indices, images), without what cannot be read."""
    if examples.service is not None:
        numbered = NumberedBatches.in_stored_order(examples, read, _BATCH)
        batches = examples.service.batches(numbered, 0, numbered.steps, whole=False)
        return batches.map(in_graph(lambda batch: (batch["index"], batch["input"])))
    # What fails is left out, so that a good image costs no Python and every bad one is found.
    dataset = examples.stream(None).map(
        in_graph(lambda example: (example["index"], read(example))), num_parallel_calls=THREADS
    )
    return dataset.ignore_errors().batch(_BATCH)


def _require_all_read(unread: list[tuple[Examples, np.ndarray]]) -> None:
    found = {
        examples.name: {
            examples.ids[index]: reason for index, reason in _reasons(examples, missing).items()
        }
        for examples, missing in unread
        if len(missing)
    }
    if not found:
        return
    faults = [f"{id_} ({name}): {why}" for name, each in found.items() for id_, why in each.items()]
    more = f"\n  ... and {len(faults) - _NAMED} more." if len(faults) > _NAMED else ""
    headline = (
        f"{len(faults)} images cannot be read. Mend or remove them, or leave them out with "
        "--exclude=FILE, which python -m sft_keras.check writes."
    )
    raise UnreadableError(numbered(headline, faults[:_NAMED]) + more, found)


def _reasons(examples: Examples, indices: np.ndarray) -> dict[int, str]:
    """Reads the examples at `indices` again, one by one; returns what is wrong with each."""
    wanted = np.zeros(len(examples), bool)
    wanted[indices] = True
    is_wanted = tf.constant(wanted)
    found: dict[int, str] = {}
    failure = "it could not be read a second time either"
    once = "failed once and could then be read: the storage may be unreliable"
    if examples.service is not None:
        once = "not readable by the data service, but here: do its workers see the same disk?"
    again = iter(examples.stream(None).filter(lambda example: is_wanted[example["index"]]))
    for _ in range(len(examples) + 1):  # Each turn takes one example or ends.
        try:
            example = next(again)
        except StopIteration:
            break
        except tf.errors.OpError as error:  # The file itself cannot be read.
            failure = first_line(error)
            continue
        found[int(example["index"])] = undecodable_reason(example["image"].numpy()) or once
    return {int(index): found.get(int(index), failure) for index in indices}
