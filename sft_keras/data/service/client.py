"""Reading examples on the workers of a tf.data service, in the order of a run without one.

The workers hand out batches as they are done, and those of a worker that dies never come. So each
batch comes with its number:

    numbers -> [ order -> files -> pixels ] -> whoever is done first -> batch 0, 1, 2, ...
                    on the workers                                      in this process

What does not come is read in this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from sft_keras.core.errors import DataServiceError, SFTError
from sft_keras.data.examples import SPLITS, Splits
from sft_keras.data.service.dispatcher import require_dispatcher
from sft_keras.data.service.job import Job
from sft_keras.data.service.numbered_batches import NumberedBatches
from sft_keras.data.service.reorder import reorder

RESPONSE_TIMEOUT = 30.0
"""Seconds to wait for anything from the service."""

Batch = dict[str, Any]
"""An element of `NumberedBatches.dataset`, as NumPy arrays."""


class DataService:
    """A tf.data service that reads image files for this process.

    Attributes:
      address: Of its dispatcher, grpc://HOST:PORT.
      timeout: Seconds to wait for anything from it.
      read_here: How many batches did not come, and were read in this process.
      failure: Why it could not go on; None if it could.
    """

    def __init__(self, address: str, timeout: float = RESPONSE_TIMEOUT) -> None:
        self.address, self.timeout = address, timeout
        self.read_here = 0
        self.failure: SFTError | None = None

    def reading(self, splits: Splits) -> Splits:
        """Returns splits that this service reads."""
        parts = {name: dataclasses.replace(getattr(splits, name), service=self) for name in SPLITS}
        return dataclasses.replace(splits, **parts)

    def batches(
        self, batches: NumberedBatches, first: int, end: int | None, *, whole: bool = True
    ) -> tf.data.Dataset:
        """Returns the batches from `first` to before `end` in order; without end if that is None.

        Args:
          batches: What to read.
          first: The number of the first.
          end: The number after that of the last.
          whole: Whether an example that cannot be read is an error; else it is left out.

        Returns:
          Elements as those of `batches.dataset`. If it fails, `failure` says why.
        """
        all_of_them = batches.dataset(first, end)

        def begin(number: int) -> Job:
            # Making a dataset takes as long as reading some batches.
            return self.job(all_of_them if number == first else batches.dataset(number, end))

        def received() -> Iterator[Batch]:
            try:
                coming = reorder(begin, first, end, self.timeout)
                yield from self._received(batches, coming, whole)
            except SFTError as error:
                self.failure = error
                raise

        return tf.data.Dataset.from_generator(received, output_signature=all_of_them.element_spec)

    def job(self, dataset: tf.data.Dataset, *, by_all: bool = False) -> Job:
        """Begins a job, see `Job`.

        Raises:
          DataServiceError: If the service is not there.
        """
        require_dispatcher(self.address)
        try:
            return Job(self.address, dataset, by_all=by_all)
        except tf.errors.OpError as error:
            raise self.no_response_error(error) from error

    def no_response_error(self, error: tf.errors.OpError) -> DataServiceError:
        """Returns what to raise where nothing comes."""
        return DataServiceError(
            "The data service must have workers that read. Received: nothing from "
            f"{self.address} for {self.timeout:.0f} s ({_why(error)}). See what its workers "
            "say, start them anew if need be, and go on with --resume; or leave out --data_service."
        )

    def _received(
        self, batches: NumberedBatches, coming: Iterator[tuple[int, Batch | None]], whole: bool
    ) -> Iterator[Batch]:
        try:
            for number, came in coming:
                batch = self._read_anyway(batches, number) if came is None else came
                rows = batches.rows(number)
                is_there = np.isin(rows, [] if batch is None else batch["index"])
                if whole and not is_there.all():
                    raise unreadable_error(batches.examples.paths[rows[~is_there][0]])
                if batch is None:
                    continue
                if not np.array_equal(rows[is_there], batch["index"]):
                    raise DataServiceError(
                        "The workers of the data service must draw the same order as this process. "
                        f"Received: another one in batch {number}. Do they have the same version "
                        "of TensorFlow?"
                    )
                yield batch
        except tf.errors.OpError as error:
            raise self.no_response_error(error) from error

    def _read_anyway(self, batches: NumberedBatches, number: int) -> Batch | None:
        if not self.read_here:
            logging.warning(
                "A batch of the data service is late: a worker is slow or has died. It is read in "
                "this process, as all that are late."
            )
        self.read_here += 1
        return batches.read_here(number)


@contextlib.contextmanager
def explain_service_failure(service: DataService | None) -> Iterator[None]:
    """Raises a service's `failure` where the block fails for it.

    TensorFlow hands on no more of it than its traceback in words.
    """
    try:
        yield
    except tf.errors.OpError:
        if service is None or service.failure is None:
            raise
        raise service.failure from None


def _why(error: tf.errors.OpError) -> str:
    # A session first says where in its graph it was.
    return error.message.strip().rpartition("\n")[2]


def unreadable_error(path: str) -> DataServiceError:
    """Returns what to raise where a worker cannot read a file that this process could."""
    return DataServiceError(
        "The workers of the data service must be able to read all files. Received: one that could "
        f"not read {path!r}, which this process could. They must see the same disk, under the same "
        "path."
    )
