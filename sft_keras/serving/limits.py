"""How much one request may ask for, so that none takes all memory from the others."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Of requests.

    Attributes:
      body_bytes: Of a request.
      instances: In a request: what the network computes for them is in memory at once.
      text_bytes: Of all texts in a request, since of a long passage many windows are read.
      pixels: Of all images in a request once decoded, however small their files are.
      waiting: Requests that are read, wait or are answered at a time; further ones are told to
        come again.
      read_seconds: For the body of a request to arrive.
    """

    body_bytes: int = 32 * 2**20
    instances: int = 128
    text_bytes: int = 2**18
    pixels: int = 2**27
    waiting: int = 64
    read_seconds: float = 60.0
