"""Labelled examples: where they come from, how they are split, decoded and batched.

Importing this does not import TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sft_keras.data.arrays import Arrays

if TYPE_CHECKING:
    from sft_keras.data.examples import Splits
    from sft_keras.recipe import Data

__all__ = ["Arrays", "open_data"]


def open_data(data: Data, seed: int) -> Splits:
    """Finds and lists the examples of a source and makes the splits it lacks; decodes nothing.

    Args:
      data: What the recipe says of its data.
      seed: Of the splits made here; the same seed gives the same splits.

    Raises:
      DataError: Listing every fault that shows without decoding.
    """
    from sft_keras.data.opening import open_source

    return open_source(data, seed)
