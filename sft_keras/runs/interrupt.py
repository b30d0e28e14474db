"""Ctrl-C and SIGTERM: a run ends where it can go on later. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody wants the run to end.

    Attributes:
      received: The signal that said so; None as long as nobody does.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferred = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block nothing is broken off; it calls `check` where it can be left."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raises a `KeyboardInterrupt` if the run is to end."""
        if self.received is not None:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for each in _SIGNALS:  # Once more ends the process at once.
            signal.signal(each, signal.SIG_DFL)
        if not self._deferred:
            raise KeyboardInterrupt
        print("\nStopping at the next step; once more stops at once.", file=sys.stderr, flush=True)


@contextlib.contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Catches the signals within the block, if it is the main thread, which alone gets them."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {each: signal.signal(each, stop._receive) for each in _SIGNALS}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)
