"""Check before the start that every worker of a data service reads files to the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataServiceError
from sft_keras.data.examples import RemoteReader
from sft_keras.data.service.client import Batch, unreadable_error
from sft_keras.data.service.numbered_batches import NumberedBatches

_FILES = 4  # to compare
_END_MARK = -1  # the number of the last element that each worker sends


def require_identical_reads(service: RemoteReader, batches: NumberedBatches) -> int:
    """Check that every worker reads some files to the same bits as this process.

    Args:
      service: The service whose workers are checked.
      batches: The batches whose first examples are read.

    Returns:
      The number of workers; 0 if none of these files can be read, not even in this process.

    Raises:
      DataServiceError: If a worker reads something else, cannot read a file, or none responds.
    """
    trial = dataclasses.replace(batches, size=min(_FILES, batches.round_size))
    expected = trial.read_here(0)
    if expected is None:
        return 0
    path = batches.paths[expected["index"][0]]
    elements = _read_on_all_workers(service, trial)
    workers = sum(element["number"] == _END_MARK for element in elements)
    received = [element for element in elements if element["number"] != _END_MARK]
    lengths = [len(batch["index"]) for batch in received]
    if len(received) < workers or min(lengths) < len(expected["index"]):
        raise unreadable_error(path)
    matches = [_is_equal(batch, expected) for batch in received]
    if not all(matches):
        raise DataServiceError(
            "The workers of the data service must read files to the same pixels as this process. "
            f"Received: different pixels of {path!r} from {matches.count(False)} of {workers} "
            "workers. Check that they have the same version of TensorFlow, and that it is the same "
            "file."
        )
    return workers


def _read_on_all_workers(service: RemoteReader, trial: NumberedBatches) -> list[Batch]:
    """Return the first batch as every worker reads it, and an element numbered -1 per worker."""
    first = trial.dataset(0, 1)
    end_mark = {**_zeros_like_spec(first.element_spec), "number": tf.constant(_END_MARK, tf.int64)}
    dataset = first.concatenate(tf.data.Dataset.from_tensors(end_mark))
    elements: list[Batch] = []
    with contextlib.closing(service.job(dataset, every_worker=True)) as job:
        while True:
            try:
                elements.append(job.next(service.timeout))
            except tf.errors.OpError as error:
                # A worker that died recently never responds, which is not a fault.
                if any(element["number"] == _END_MARK for element in elements):
                    return elements
                raise service.no_response_error(error) from error


def _zeros_like_spec(specs: Any) -> Any:
    return tf.nest.map_structure(
        lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), specs
    )


def _is_equal(first: Batch, second: Batch) -> bool:
    pairs = zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)
