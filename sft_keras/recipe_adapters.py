"""Adapters that a stage may train in place of what they stand beside. Standard library only."""

from __future__ import annotations

from typing import Literal

from sft_keras.recipe_checks import Checks, section


@section
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685).

    Beside a kernel W of the pretrained network, which stays as it is, two small matrices train: W
    counts as W + alpha / rank * A B. A begins at random and B at 0, so that a stage begins where
    the network was. At its end the product is added to the kernel: what is saved, served and
    trained in later stages is the plain network.

    Attributes:
      rank: The columns of A and rows of B. (Where a kernel has an axis for each attention head, A
        has it too, and B is shared by the heads, as Keras has it.)
      alpha: The weight of the product is alpha / rank; None for `rank`, which weighs it 1.
      targets: The layers of the unfrozen blocks that get one: those with one of these in their
        name, among Dense, EinsumDense and Embedding layers; "all" for every Dense and EinsumDense.
    """

    rank: int = 8
    alpha: float | None = None
    targets: Literal["all"] | tuple[str, ...] = ("query", "value")

    def faults(self, path: str = "adapter") -> list[str]:
        """Returns what is wrong with these fields, one sentence each; `path` is where they are."""
        checks = Checks(path, self)
        checks.at_least("rank", 1)
        if self.alpha is not None:
            checks.require("alpha", self.alpha > 0, "a number above 0, or none")
        checks.require("targets", bool(self.targets), "'all', or at least one name")
        return checks.found
