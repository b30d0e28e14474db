"""How long each part of a run took. Standard library only."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Mapping


class Timer:
    """Adds up the seconds of each part of a run, over all processes that it took."""

    def __init__(self) -> None:
        self.started = datetime.datetime.now(datetime.UTC)
        self.seconds: dict[str, float] = {}
        self._began, self._earlier = time.perf_counter(), 0.0

    def go_on(self, earlier: Mapping[str, float]) -> None:
        """Adds what `as_json` gave in an earlier process of the run."""
        self._earlier = earlier["total"]
        self.seconds = {part: each for part, each in earlier.items() if part != "total"}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times a block as `part`."""
        began, earlier = time.perf_counter(), self.seconds.get(part, 0.0)
        yield
        self.seconds[part] = earlier + time.perf_counter() - began

    def as_json(self) -> dict[str, float]:
        """Returns the seconds of each part and in total."""
        return {**self.seconds, "total": self._earlier + time.perf_counter() - self._began}
