"""Dynamic batching: concurrent requests are merged into one batch, without waiting for more."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]
Predict = Callable[[str, Arrays], Arrays]
"""Maps the name of a signature and its arguments to its outputs."""

MAX_BATCH_INSTANCES = 32
"""The maximum size of a merged batch. A larger request is computed by itself."""


@dataclasses.dataclass(eq=False)
class _PendingRequest:
    """A queued request; `outputs` or `error` is set once it is finished."""

    signature: str
    arrays: Arrays
    weight: int
    mergeable: bool
    outputs: Arrays | None = None
    error: Exception | None = None
    is_finished: bool = False

    @property
    def count(self) -> int:
        return len(next(iter(self.arrays.values())))


class DynamicBatcher:
    """Merges concurrent requests into batches, computed by a bounded number of threads.

    Each caller waits in a queue. The first one becomes the leader as soon as a slot is free: it
    removes the requests that can be merged with its own from the queue, computes them as one
    batch, and hands the other callers their rows.
    """

    def __init__(self, predict: Predict, slots: int, max_weight: int) -> None:
        """Create a batcher with an empty queue.

        Args:
          predict: Computes a batch. Called by up to `slots` threads at a time.
          slots: The number of batches that are computed at a time.
          max_weight: The maximum total weight of a merged batch.
        """
        self._predict, self._free_slots, self._max_weight = predict, slots, max_weight
        self._queue: list[_PendingRequest] = []
        self._changed = threading.Condition()

    def predict(
        self, signature: str, arrays: Arrays, *, weight: int = 0, mergeable: bool = False
    ) -> Arrays:
        """Return the outputs for one request. Block until they are computed.

        Args:
          signature: The name of the signature.
          arrays: Its arguments, [n, ...] each.
          weight: The weight of the request, in any unit.
          mergeable: Whether every output has one row per instance, which depends only on that
            instance, so that the request may be merged with others of the same signature.

        Raises:
          Exception: Whatever the batcher's `predict` raises for this request.
        """
        request = _PendingRequest(signature, arrays, weight, mergeable)
        with self._changed:
            self._queue.append(request)
            self._changed.wait_for(lambda: request.is_finished or self._may_lead(request))
            batch = [] if request.is_finished else self._take_batch(request)
            self._free_slots -= bool(batch)
            self._changed.notify_all()  # another request is the first now
        if batch:
            try:
                self._compute(batch)
            finally:
                with self._changed:
                    self._free_slots += 1
                    for member in batch:
                        member.is_finished = True
                    self._changed.notify_all()
        if request.error is not None:
            raise request.error
        if request.outputs is None:  # the thread that computed it was interrupted
            raise RuntimeError("The request was not computed.")
        return request.outputs

    def _may_lead(self, request: _PendingRequest) -> bool:
        # Only the first: otherwise a request might be overtaken forever.
        return bool(self._free_slots and self._queue and self._queue[0] is request)

    def _take_batch(self, leader: _PendingRequest) -> list[_PendingRequest]:
        """Remove a request and those that merge with it from the queue, in order."""
        batch, count, weight = [leader], leader.count, leader.weight
        for other in self._queue:
            if other is leader or not (leader.mergeable and other.mergeable):
                continue
            if other.signature != leader.signature:
                continue
            fits = weight + other.weight <= self._max_weight
            if fits and count + other.count <= MAX_BATCH_INSTANCES:
                batch.append(other)
                count, weight = count + other.count, weight + other.weight
        self._queue = [request for request in self._queue if request not in batch]
        return batch

    def _compute(self, batch: Sequence[_PendingRequest]) -> None:
        names = batch[0].arrays
        merged = {
            name: np.concatenate([request.arrays[name] for request in batch]) for name in names
        }
        try:
            outputs = self._predict(batch[0].signature, merged)
            if len(batch) > 1:
                _require_rows(outputs, sum(request.count for request in batch))
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
            else:  # bisection isolates the faulty request without computing each separately
                self._compute(batch[: len(batch) // 2])
                self._compute(batch[len(batch) // 2 :])
            return
        if len(batch) == 1:  # its outputs need not have one row per instance
            batch[0].outputs = outputs
            return
        for request, end in zip(batch, np.cumsum([request.count for request in batch])):
            rows = slice(end - request.count, end)
            request.outputs = {name: values[rows] for name, values in outputs.items()}


def _require_rows(outputs: Arrays, count: int) -> None:
    for name, values in outputs.items():
        if values.shape[:1] != (count,):
            raise ValueError(
                f"The output {name!r} does not have one row for each of {count} instances."
            )
