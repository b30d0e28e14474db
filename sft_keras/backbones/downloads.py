"""Let downloads by Keras and KerasHub fail fast when there is no network.

On their own they would wait for name servers or retry for minutes, and then raise errors that do
not name the missing file.
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

_SOCKET_TIMEOUT = 20.0  # seconds without a byte after which a download fails


class DownloadRefused(Exception):
    """A library tried to use the network although there is none.

    Not an OSError: libraries treat those as a temporary failure of the network and retry.
    """


class _Watch(threading.local):
    """State of the audit hook per thread: the addresses requested so far, None when inactive."""

    addresses: list[str] | None = None


_watch = _Watch()


@contextlib.contextmanager
def watched_downloads() -> Iterator[list[str]]:
    """Context manager: fail downloads at once if offline, and after 20 s of silence otherwise.

    Yields:
      The addresses requested so far, in order; only the host name if the library bypasses urllib.

    Raises:
      DownloadRefused: If the block needs the network and there is none.

    Example:

    ```python
    with watched_downloads() as addresses:
        model = keras.applications.VGG16()
    ```
    """
    _install_hook()
    previous_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SOCKET_TIMEOUT)
    addresses: list[str] = []
    _watch.addresses = addresses
    try:
        yield addresses
    finally:
        _watch.addresses = None
        socket.setdefaulttimeout(previous_timeout)


@functools.cache
def _install_hook() -> None:
    # An audit hook sees the requests of every library, whichever HTTP client it uses, before name
    # resolution. It cannot be removed again, so `_watch.addresses` switches it off.
    sys.addaudithook(_on_event)


def _on_event(event: str, details: tuple[Any, ...]) -> None:
    # The event first: the hook is also called at interpreter exit, when `_watch` is gone.
    if event not in ("urllib.Request", "socket.getaddrinfo"):
        return
    addresses = _watch.addresses
    if addresses is None:
        return
    addresses.append(str(details[0]))
    _watch.addresses = None  # `is_online` may itself resolve an address.
    try:
        online = network.is_online()
    finally:
        _watch.addresses = addresses
    if not online:
        raise DownloadRefused("There is no network.")
