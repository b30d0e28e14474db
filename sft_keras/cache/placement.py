"""Where cached features are stored: in memory, on disk, or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from sft_keras.cache.disk import DiskStore
from sft_keras.core.errors import RecipeError
from sft_keras.distributed.devices import Devices

Location = Literal["memory", "disk"]

_MEGABYTE = 2**20
_LARGEST_SHARE = 0.5  # of what is free, because rows are in memory twice while they are copied


class NotCachedError(Exception):
    """Features are not cached. The message completes "computed in every epoch: ..."."""


@dataclasses.dataclass
class Budgets:
    """The bytes that cached features may still occupy.

    Attributes:
      memory: Bytes in memory.
      disk: Bytes on disk.
      memory_share: Share of the free memory that `memory` was computed from, 0..1.
      folder: The cache folder.
    """

    memory: float
    disk: float
    memory_share: float
    folder: Path

    @classmethod
    def measure(cls, memory_share: float, store: DiskStore, devices: Devices) -> Budgets:
        """Return the current budgets, the same in every process.

        Args:
          memory_share: `data.memory_share` of the recipe.
          store: The cache on disk.
          devices: The processes. The smallest budget counts, because workers that choose different
            locations would diverge.
        """
        share = min(memory_share, _LARGEST_SHARE)
        local = [
            share * psutil.virtual_memory().available,
            _LARGEST_SHARE * store.free(),
        ]
        (gathered,) = devices.all_gather([np.array(local, np.float64)])
        memory, disk = gathered.min(axis=0).tolist()
        return cls(memory, disk, share, store.folder)

    def reserve(self, location: Location, size: int) -> None:
        """Subtract `size` bytes from the budget of a location."""
        if location == "memory":
            self.memory -= size
        else:
            self.disk -= size

    def choose(self, cache: str, size: int, stage: str, *, is_mostly_on_disk: bool) -> Location:
        """Return where missing rows are to be stored.

        Args:
          cache: `cache` of the recipe: "auto", "memory" or "disk".
          size: Bytes of all rows of the boundary.
          stage: Name of the stage that needs them, for the error message.
          is_mostly_on_disk: Whether at least half of the rows are already on disk.

        Raises:
          NotCachedError: If they fit nowhere.
          RecipeError: If the recipe requires memory and they do not fit.
        """
        if cache == "auto" and is_mostly_on_disk:
            return "disk"
        if cache != "disk" and size <= self.memory:
            return "memory"
        needed = f"the features take {megabytes(size)}, more than"
        memory = f"{self.memory_share:.0%} of the free memory ({megabytes(self.memory)})"
        if cache == "memory":
            raise RecipeError(
                f"`cache` is 'memory', but for stage {stage!r} {needed} {memory}. "
                "Raise `data.memory_share`, or set `cache` to 'auto', 'disk' or 'off'."
            )
        if size <= self.disk:
            return "disk"
        disk = (
            f"{_LARGEST_SHARE:.0%} of the free disk space at {self.folder} ({megabytes(self.disk)})"
        )
        raise NotCachedError(f"{needed} {disk if cache == 'disk' else f'{memory} and {disk}'}")


def megabytes(size: float) -> str:
    """Return a number of bytes in binary megabytes, such as "1,234 MB"."""
    return f"{size / _MEGABYTE:,.0f} MB"
