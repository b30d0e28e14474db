"""Read examples on the workers of a tf.data service, in the order of a run without a service.

Workers deliver batches in the order in which they finish them, and those of a worker that dies
never arrive. So each batch carries its number:

    numbers -> [ order -> files -> pixels ] -> in order of completion -> batch 0, 1, 2, ...
                    on the workers                                      in this process

Batches that do not arrive are read in this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from sft_keras.core.errors import DataServiceError, SFTError
from sft_keras.data.examples import Splits
from sft_keras.data.service.dispatcher import require_dispatcher
from sft_keras.data.service.job import Job
from sft_keras.data.service.numbered_batches import NumberedBatches
from sft_keras.data.service.reorder import reorder

_LOG = logging.getLogger(__name__)

RESPONSE_TIMEOUT = 30.0
"""Seconds to wait for any element from the service."""

Batch = dict[str, Any]
"""An element of `NumberedBatches.dataset`, as NumPy arrays."""


class DataService:
    """A tf.data service that reads image files for this process.

    Attributes:
      address: The address of its dispatcher, grpc://HOST:PORT.
      timeout: Seconds to wait for any element from it.
      read_here: Number of batches that did not arrive and were read in this process.
      failure: The error that stopped it; None if there was none.
    """

    def __init__(self, address: str, timeout: float = RESPONSE_TIMEOUT) -> None:
        self.address, self.timeout = address, timeout
        self.read_here = 0
        self.failure: SFTError | None = None

    def reading(self, splits: Splits) -> Splits:
        """Return the splits, to be read by this service."""
        return dataclasses.replace(
            splits,
            train=dataclasses.replace(splits.train, service=self),
            validation=dataclasses.replace(splits.validation, service=self),
            test=dataclasses.replace(splits.test, service=self),
        )

    def batches(
        self, batches: NumberedBatches, first: int, end: int | None, *, require_all: bool = True
    ) -> tf.data.Dataset:
        """Return the batches from `first` up to, but not including, `end`, in order.

        Args:
          batches: The batches to read.
          first: The first number.
          end: The number after the last; None for no end.
          require_all: Whether an unreadable example is an error; otherwise it is dropped.

        Returns:
          Elements as those of `batches.dataset`. If reading fails, `failure` holds the reason.
        """
        dataset = batches.dataset(first, end)

        def open_job(number: int) -> Job:
            # Building a dataset takes as long as reading some batches.
            return self.job(dataset if number == first else batches.dataset(number, end))

        def read() -> Iterator[Batch]:
            try:
                arrivals = reorder(open_job, first, end, self.timeout)
                yield from self._check(batches, arrivals, require_all)
            except SFTError as error:
                self.failure = error
                raise

        return tf.data.Dataset.from_generator(read, output_signature=dataset.element_spec)

    def job(self, dataset: tf.data.Dataset, *, every_worker: bool = False) -> Job:
        """Start a job on the service.

        Args:
          dataset: The dataset that the workers run.
          every_worker: Whether each worker computes all elements; otherwise they share them.

        Raises:
          DataServiceError: If the service does not respond.
        """
        require_dispatcher(self.address)
        try:
            return Job(self.address, dataset, every_worker=every_worker)
        except tf.errors.OpError as error:
            raise self.no_response_error(error) from error

    def no_response_error(self, error: tf.errors.OpError) -> DataServiceError:
        """Return the error to raise when nothing arrives."""
        return DataServiceError(
            "The data service must have running workers. Received: nothing from "
            f"{self.address} for {self.timeout:.0f} s ({_reason(error)}). Check the logs of its "
            "workers, restart them if necessary, and continue with --resume; or run without "
            "--data_service."
        )

    def _check(
        self,
        batches: NumberedBatches,
        arrivals: Iterator[tuple[int, Batch | None]],
        require_all: bool,
    ) -> Iterator[Batch]:
        """Yield the batches in order; read here those that are None, and verify their order."""
        try:
            for number, arrived in arrivals:
                batch = self._read_late(batches, number) if arrived is None else arrived
                rows = batches.rows(number)
                is_read = np.isin(rows, [] if batch is None else batch["index"])
                if require_all and not is_read.all():
                    raise unreadable_error(batches.paths[rows[~is_read][0]])
                if batch is None:
                    continue
                if not np.array_equal(rows[is_read], batch["index"]):
                    raise DataServiceError(
                        "The workers of the data service must draw the same order as this process. "
                        f"Received: a different order in batch {number}. Check that they have the "
                        "same version of TensorFlow."
                    )
                yield batch
        except tf.errors.OpError as error:
            raise self.no_response_error(error) from error

    def _read_late(self, batches: NumberedBatches, number: int) -> Batch | None:
        if not self.read_here:
            _LOG.warning(
                "A batch of the data service is late: a worker is slow or has died. This process "
                "reads it, and all later ones that do not arrive."
            )
        self.read_here += 1
        return batches.read_here(number)


@contextlib.contextmanager
def explain_service_failure(service: DataService | None) -> Iterator[None]:
    """Raise the service's `failure` if the block fails because of it.

    TensorFlow only passes on the text of its traceback.
    """
    try:
        yield
    except tf.errors.OpError:
        if service is None or service.failure is None:
            raise
        raise service.failure from None


def _reason(error: tf.errors.OpError) -> str:
    # The message of a session starts with the location in its graph.
    return error.message.strip().rpartition("\n")[2]


def unreadable_error(path: str) -> DataServiceError:
    """Return the error to raise when a worker cannot read a file that this process can read."""
    return DataServiceError(
        "The workers of the data service must be able to read all files. Received: one that could "
        f"not read {path!r}, which this process can read. They must see the same disk, under the "
        "same path."
    )
