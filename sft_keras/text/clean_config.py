"""Configuration of text cleaning. Does not import TensorFlow."""

from __future__ import annotations

from typing import Literal

from sft_keras.recipe.section import section


@section
class Clean:
    """Cleaning of the texts of a source; the report counts the texts that it drops.

    Only training and evaluation data are cleaned. Predictions receive texts unchanged, so clean
    them in the same way first.

    Attributes:
      html: Whether to remove tags and decode entities such as "&amp;".
      whitespace: Whether to collapse runs of white space and strip it from both ends.
      unicode: The Unicode normalization form (Unicode Standard Annex 15); None for none.
      duplicates: Whether to drop repeated texts with the same label, and training texts that also
        occur in validation or test, whatever their label.

    Example:

    >>> from sft_keras.tasks import Clean
    >>> from sft_keras.text.cleaning import clean_text
    >>> clean_text("<b>Fish &amp;  chips</b>", Clean())
    'Fish & chips'
    >>> clean_text("<b>Fish &amp;  chips</b>", Clean(html=False))
    '<b>Fish &amp; chips</b>'
    """

    html: bool = True
    whitespace: bool = True
    unicode: Literal["NFC", "NFKC"] | None = "NFC"
    duplicates: bool = True

    def faults(self) -> list[str]:
        """Return no faults: every combination of values is valid."""
        return []
