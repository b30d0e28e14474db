"""The recipe sections of the feature cache and of checkpoints. Standard library only."""

from __future__ import annotations

from typing import Literal

from sft_keras.recipe.section import Checks, section


@section
class Store:
    """How cached features are computed and stored. `Recipe.cache` selects where.

    Attributes:
      views: Number of augmented views to cache per training example; every epoch uses one of
        them, in seeded order. None to augment anew in every epoch, for which the frozen blocks
        run in every epoch.
      dtype: "float32" is lossless (features computed in half precision stay in half precision);
        "float16" and "bfloat16" round, and take half the space.
      precision: Precision in which the frozen blocks compute: "exact" as in training;
        "bfloat16" is faster on hardware that supports it and changes losses by about 1e-4.
      batch_size: Examples per batch through the frozen blocks.
      folder: Where `cache="disk"` stores features between runs; None for $SFT_KERAS_CACHE or, if
        that is unset, ~/.cache/sft_keras. `python -m sft_keras.cache` lists and deletes them.

    Example:
      >>> from sft_keras import Store
      >>> Store(views=4, dtype="float16").batch_size
      32
    """

    views: int | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    precision: Literal["exact", "bfloat16"] = "exact"
    batch_size: int = 32
    folder: str | None = None

    def faults(self) -> list[str]:
        """Return one sentence for each field whose value is wrong."""
        checks = Checks("store", self)
        if self.views is not None:
            checks.at_least("views", 1)
        checks.at_least("batch_size", 1)
        return checks.faults


@section
class Checkpointing:
    """How often a run writes a checkpoint from which `--resume` continues.

    A checkpoint is also written at the end of each stage and when the run is stopped.

    Attributes:
      every_seconds: Seconds between checkpoints.
      every_steps: Steps between checkpoints, where that is sooner; None for `every_seconds` only.

    Example:
      >>> from sft_keras import Checkpointing
      >>> Checkpointing(every_steps=500)
      Checkpointing(every_seconds=300.0, every_steps=500)
    """

    every_seconds: float = 300.0
    every_steps: int | None = None

    def faults(self) -> list[str]:
        """Return one sentence for each field whose value is wrong."""
        checks = Checks("checkpoints", self)
        checks.require("every_seconds", self.every_seconds > 0, "greater than 0")
        if self.every_steps is not None:
            checks.at_least("every_steps", 1)
        return checks.faults
