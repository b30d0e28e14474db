"""Several requests that wait at a time are computed as one batch, without waiting for more."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]
Ask = Callable[[str, Arrays], Arrays]
"""From a signature's name and its arguments to its outputs."""

INSTANCES = 32
"""The most that are put together; a request of more of them is computed by itself."""


@dataclasses.dataclass(eq=False)
class _Waiting:
    """A request; `outputs` or `error` are there once it is finished."""

    signature: str
    arrays: Arrays
    weight: int
    merges: bool
    outputs: Arrays | None = None
    error: Exception | None = None
    is_finished: bool = False

    @property
    def count(self) -> int:
        return len(next(iter(self.arrays.values())))


class Batching:
    """Lets a bounded number of threads compute; the first of them takes others' requests along."""

    def __init__(self, ask: Ask, slots: int, heaviest: int) -> None:
        """Makes one.

        Args:
          ask: Computes; called by up to `slots` threads at a time.
          slots: See above.
          heaviest: The most that requests put together may weigh.
        """
        self._ask, self._free, self._heaviest = ask, slots, heaviest
        self._queue: list[_Waiting] = []
        self._changed = threading.Condition()

    def ask(
        self, signature: str, arrays: Arrays, *, weight: int = 0, merges: bool = False
    ) -> Arrays:
        """Returns the outputs for one request, when its turn has come.

        Args:
          signature: Its name.
          arrays: Its arguments, [n, ...] each.
          weight: Of the request; any unit.
          merges: Whether all outputs have a row for each instance, which depends on it alone, so
            that it may be computed with others of the same signature.

        Raises:
          Exception: What `ask` raises for this request.
        """
        own = _Waiting(signature, arrays, weight, merges)
        with self._changed:
            self._queue.append(own)
            self._changed.wait_for(lambda: own.is_finished or self._may_lead(own))
            taken = [] if own.is_finished else self._taken(own)
            self._free -= bool(taken)
            self._changed.notify_all()  # Another one is the first now.
        if taken:
            try:
                self._compute(taken)
            finally:
                with self._changed:
                    self._free += 1
                    for each in taken:
                        each.is_finished = True
                    self._changed.notify_all()
        if own.error is not None:
            raise own.error
        return own.outputs

    def _may_lead(self, own: _Waiting) -> bool:
        # The first alone, or a request might be overtaken for ever.
        return bool(self._free and self._queue and self._queue[0] is own)

    def _taken(self, own: _Waiting) -> list[_Waiting]:
        """Takes a request and what goes with it out of the queue, in order."""
        taken, count, weight = [own], own.count, own.weight
        for other in self._queue:
            if other is own or not (own.merges and other.merges):
                continue
            if other.signature != own.signature:
                continue
            if count + other.count <= INSTANCES and weight + other.weight <= self._heaviest:
                taken.append(other)
                count, weight = count + other.count, weight + other.weight
        self._queue = [each for each in self._queue if each not in taken]
        return taken

    def _compute(self, taken: Sequence[_Waiting]) -> None:
        names = taken[0].arrays
        together = {name: np.concatenate([each.arrays[name] for each in taken]) for name in names}
        try:
            outputs = self._ask(taken[0].signature, together)
            if len(taken) > 1:
                _require_rows(outputs, sum(each.count for each in taken))
        except Exception as error:
            if len(taken) == 1:
                taken[0].error = error
            else:  # of one of them, which halving finds without computing each by itself
                self._compute(taken[: len(taken) // 2])
                self._compute(taken[len(taken) // 2 :])
            return
        if len(taken) == 1:  # also one whose outputs have no row for each instance
            taken[0].outputs = outputs
            return
        for each, end in zip(taken, np.cumsum([each.count for each in taken])):
            rows = slice(end - each.count, end)
            each.outputs = {name: values[rows] for name, values in outputs.items()}


def _require_rows(outputs: Arrays, count: int) -> None:
    for name, values in outputs.items():
        if values.shape[:1] != (count,):
            raise ValueError(f"{name} has not a row for each of {count} instances.")
