"""What is done to texts before anything is learnt from them. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Literal

from sft_keras.recipe.section import section


@section
class Clean:
    """How the texts of a source are cleaned; what is dropped is counted in the report.

    A model is asked about texts as they come: give it cleaned ones too.

    Attributes:
      html: Whether tags are taken out and entities such as "&amp;" become what they stand for.
      whitespace: Whether each stretch of white space becomes one blank, and none at the ends.
      unicode: The normal form texts are brought to (Unicode Standard Annex 15); None for none.
      duplicates: Whether a text that was there before with the same label is dropped, and a
        training text that is in validation or test too, whatever its label.
    """

    html: bool = True
    whitespace: bool = True
    unicode: Literal["NFC", "NFKC"] | None = "NFC"
    duplicates: bool = True

    def faults(self) -> list[str]:
        """Returns nothing: any of its values will do."""
        return []

    def reads(self) -> str:
        """Returns all that decides on a cleaned text."""
        return repr(dataclasses.astuple(self))
