"""Every worker of a data service reads some files before the start, to the same bits as here."""

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

_TRIED = 4  # files
_LAST = -1  # the number of what each worker sends in the end


def require_identical_reads(service: RemoteReader, batches: NumberedBatches) -> int:
    """Checks that every worker reads some files to the same bits as this process.

    Args:
      service: Whose workers are asked.
      batches: Whose first examples are read.

    Returns:
      How many workers there are; 0 if none of these files can be read, here either.

    Raises:
      DataServiceError: If one does not, or none is there.
    """
    tried = dataclasses.replace(batches, size=min(_TRIED, batches.round_size))
    expected = tried.read_here(0)
    if expected is None:
        return 0
    path = batches.examples.paths[expected["index"][0]]
    answers = _answers(service, tried)
    workers = sum(each["number"] == _LAST for each in answers)
    found = [each for each in answers if each["number"] != _LAST]
    lengths = [len(each["index"]) for each in found]
    if len(found) < workers or min(lengths) < len(expected["index"]):
        raise unreadable_error(path)
    same = [_is_equal(each, expected) for each in found]
    if not all(same):
        raise DataServiceError(
            "The workers of the data service must read a file to the same pixels as this process. "
            f"Received: {same.count(False)} of {workers} workers that read {path!r} to others. Do "
            "they have the same version of TensorFlow, and is it the same file?"
        )
    return workers


def _answers(service: RemoteReader, tried: NumberedBatches) -> list[Batch]:
    """Returns what all workers make of the first batch, each followed by one numbered -1."""
    first = tried.dataset(0, 1)
    last = {**_nothing_like(first.element_spec), "number": tf.constant(_LAST, tf.int64)}
    both = first.concatenate(tf.data.Dataset.from_tensors(last))
    answers: list[Batch] = []
    with contextlib.closing(service.job(both, by_all=True)) as job:
        while True:
            try:
                answers.append(job.next(service.timeout))
            except tf.errors.OpError as error:
                # One that has died lately is waited for in vain, and is no fault.
                if any(each["number"] == _LAST for each in answers):
                    return answers
                raise service.no_response_error(error) from error


def _nothing_like(specs: Any) -> Any:
    return tf.nest.map_structure(
        lambda spec: tf.zeros([each or 0 for each in spec.shape], spec.dtype), specs
    )


def _is_equal(one: Batch, other: Batch) -> bool:
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)
