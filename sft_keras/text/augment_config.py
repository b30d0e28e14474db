"""Random changes to training texts. Does not import TensorFlow."""

from __future__ import annotations

from sft_keras.recipe.section import Checks, section


@section
class TextAugment:
    """What is done to the tokens of training texts, anew in every epoch.

    Source: Wei & Zou 2019, arXiv:1901.11196, sections 2 (random swap, random deletion), here of
    tokens and not of words; masking as in Devlin et al. 2019, arXiv:1810.04805.

    Attributes:
      delete: Share of the tokens left out.
      swap: Share of the tokens that change places with the next.
      mask: Share of the tokens replaced by the mask token.
    """

    delete: float = 0.0
    swap: float = 0.0
    mask: float = 0.0

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks("task.augment", self)
        for name in ("delete", "swap", "mask"):
            checks.require(name, 0.0 <= getattr(self, name) < 1.0, "a share, 0 or more and below 1")
        return checks.faults
