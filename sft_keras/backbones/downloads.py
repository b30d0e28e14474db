"""Keras and KerasHub download weights on their own; here that fails in seconds where it must.

Without a network they would wait for name servers or try again for minutes, and then raise
errors that do not say which file is missing.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from sft_keras.core import network

_SILENCE = 20.0  # Seconds without a byte after which a download counts as failed.


class DownloadRefused(Exception):
    """A library asked for the network where there is none.

    Not an OSError: libraries take those for a passing fault of the network and try again.
    """


class _Watch(threading.local):
    """What the audit hook looks at: where this thread notes addresses, None if it does not."""

    asked: list[str] | None = None


_watch = _Watch()


@contextlib.contextmanager
def watched_downloads() -> Iterator[list[str]]:
    """Within it, a download fails at once without a network, and soon on a silent one.

    Yields:
      The addresses asked for so far, in order; a bare host where only that is known.

    Raises:
      DownloadRefused: If something within needs the network and there is none.
    """
    _install_hook()
    silence = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE)
    _watch.asked = asked = []
    try:
        yield asked
    finally:
        _watch.asked = None
        socket.setdefaulttimeout(silence)


@functools.cache
def _install_hook() -> None:
    # An audit hook sees requests of every library, whichever HTTP client it uses, before name
    # servers are asked. It cannot be taken out again, so it rests on `_watch.asked`.
    sys.addaudithook(_on_event)


def _on_event(event: str, details: tuple[Any, ...]) -> None:
    # The event first: it is asked for at the interpreter's end too, when `_watch` is gone.
    if event not in ("urllib.Request", "socket.getaddrinfo"):
        return
    asked = _watch.asked
    if asked is None:
        return
    asked.append(str(details[0]))
    _watch.asked = None  # `is_online` may itself ask for an address.
    try:
        online = network.is_online()
    finally:
        _watch.asked = asked
    if not online:
        raise DownloadRefused("There is no network.")
