"""Ctrl-C and SIGTERM: stop a run where it can be resumed. Does not import TensorFlow."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal has requested the run to stop.

    Attributes:
      received: The signal; None if there was none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferred = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the interrupt within the block to its calls of `check`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Stop here if a stop was requested.

        Raises:
          KeyboardInterrupt: If a signal was received.
        """
        if self.received is not None:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for handled in _SIGNALS:  # A second signal ends the process immediately.
            signal.signal(handled, signal.SIG_DFL)
        if not self._deferred:
            raise KeyboardInterrupt
        print(
            "\nStopping after this step; repeat to stop immediately.", file=sys.stderr, flush=True
        )


@contextlib.contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Handle the signals within the block; in the main thread only, which alone receives them."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {handled: signal.signal(handled, stop._receive) for handled in _SIGNALS}
    try:
        yield stop
    finally:
        for handled, handler in previous.items():
            signal.signal(handled, handler or signal.SIG_DFL)
