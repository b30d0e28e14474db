"""Limits on requests, so that no request can exhaust the memory of the server."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server.

    Attributes:
      body_bytes: The maximum size of a request body.
      instances: The maximum number of instances per request; their activations are in memory at
        the same time.
      text_bytes: The maximum total size of the texts of a request, since a long passage is split
        into many windows.
      pixels: The maximum total number of pixels of the images of a request once decoded, however
        small their files are.
      open_requests: The maximum number of requests that are read, queued or computed at a time.
        Further requests are rejected as 503.
      read_seconds: The time within which the body of a request must arrive.
    """

    body_bytes: int = 32 * 2**20
    instances: int = 128
    text_bytes: int = 2**18
    pixels: int = 2**27
    open_requests: int = 64
    read_seconds: float = 60.0
