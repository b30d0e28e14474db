"""Wall-clock time of the parts of a run. Standard library only."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Mapping


class Timer:
    """Sums the wall-clock time of each part of a run, over all processes of a resumed run.

    Attributes:
      started: When this process started the run, in UTC.
      seconds: {part: seconds}.

    Example:
      >>> timer = Timer()
      >>> with timer("data"):
      ...     pass
      >>> sorted(timer.as_json())
      ['data', 'total']
    """

    def __init__(self) -> None:
        self.started = datetime.datetime.now(datetime.UTC)
        self.seconds: dict[str, float] = {}
        self._start, self._earlier = time.perf_counter(), 0.0

    def resume(self, earlier: Mapping[str, float]) -> None:
        """Continue from the `as_json` of an earlier process of the run."""
        self._earlier = earlier["total"]
        self.seconds = {part: seconds for part, seconds in earlier.items() if part != "total"}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time the block as `part`."""
        start, earlier = time.perf_counter(), self.seconds.get(part, 0.0)
        yield
        self.seconds[part] = earlier + time.perf_counter() - start

    def as_json(self) -> dict[str, float]:
        """Return {part: seconds}, and the total as "total"."""
        return {**self.seconds, "total": self._earlier + time.perf_counter() - self._start}
