"""Processes that train one model together. Standard library only."""

from __future__ import annotations

import dataclasses
from typing import Literal

Strategy = Literal["auto", "one", "mirrored", "multi_worker", "tpu"]
WORKER_TIMEOUT = 300.0
"""Seconds to wait for other workers."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Processes that train one model together, and which of them this one is.

    Attributes:
      addresses: HOST:PORT of each; the first is the chief, which writes what a run leaves behind.
      index: Which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the first."""
        return self.index == 0

    def name(self, index: int) -> str:
        """Returns how messages call a worker."""
        chief = ", the chief" if index == 0 else ""
        return f"worker {index} ({self.addresses[index]}{chief})"
