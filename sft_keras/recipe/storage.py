"""The sections of a recipe on what a run stores while it runs. Standard library only."""

from __future__ import annotations

from typing import Literal

from sft_keras.recipe.section import Checks, section


@section
class Store:
    """How what the frozen blocks give is computed and stored; `Recipe.cache` says where.

    Attributes:
      views: With augmentation, how many augmented views of each training example are computed and
        stored; every epoch shows one of them, in seeded order. None: augmentation draws anew in
        every epoch, and the frozen blocks are computed in every epoch.
      dtype: "float32" loses nothing (what was computed in half precision is kept as it is);
        "float16" and "bfloat16" take half the room and round.
      precision: What the frozen blocks compute in: "exact" is as in training, "bfloat16" is
        faster on processors that have it, and moves the losses by some 1e-4.
      batch_size: Examples the frozen blocks are given at a time.
      folder: Where `cache="disk"` keeps it between runs; None for $SFT_KERAS_CACHE, or else
        ~/.cache/sft_keras. See `python -m sft_keras.cache`.
    """

    views: int | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    precision: Literal["exact", "bfloat16"] = "exact"
    batch_size: int = 32
    folder: str | None = None

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks("store", self)
        if self.views is not None:
            checks.at_least("views", 1)
        checks.at_least("batch_size", 1)
        return checks.found


@section
class Checkpointing:
    """When a run writes down where it stands, for `--resume` to go on from.

    It does so at the end of each stage too, and when it is told to stop.

    Attributes:
      every_seconds: The time after which a checkpoint follows the last one.
      every_steps: A number of batches after which one follows, if that is sooner; None for the time
        alone.
    """

    every_seconds: float = 300.0
    every_steps: int | None = None

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks("checkpoints", self)
        checks.require("every_seconds", self.every_seconds > 0, "above 0")
        if self.every_steps is not None:
            checks.at_least("every_steps", 1)
        return checks.found
