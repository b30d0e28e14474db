"""Configuration of text augmentation. Does not import TensorFlow."""

from __future__ import annotations

from sft_keras.recipe.section import Checks, section


@section
class TextAugment:
    """Random augmentation of the tokens of training texts, redrawn in every epoch.

    Random deletion and swap follow Wei & Zou 2019, arXiv:1901.11196, section 2, but act on tokens
    instead of words; masking follows Devlin et al. 2019, arXiv:1810.04805.

    Attributes:
      delete: Share of the tokens to delete, 0 or more and below 1.
      swap: Share of the tokens to swap with the next one.
      mask: Share of the tokens to replace by the mask token.

    Example:

    >>> from sft_keras.tasks import TextAugment, TextClassification
    >>> task = TextClassification(augment=TextAugment(delete=0.1, mask=0.1))
    >>> TextAugment(swap=1.0).faults()[0].startswith("`task.augment.swap` must be")
    True
    """

    delete: float = 0.0
    swap: float = 0.0
    mask: float = 0.0

    def faults(self) -> list[str]:
        """Return what is wrong with these fields, one sentence each."""
        checks = Checks("task.augment", self)
        for name in ("delete", "swap", "mask"):
            checks.require(name, 0.0 <= getattr(self, name) < 1.0, "a share, 0 or more and below 1")
        return checks.faults
