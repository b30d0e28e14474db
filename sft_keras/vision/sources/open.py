"""Open an image source: from the recipe's data section to splits, with all faults in one error."""

from __future__ import annotations

from sft_keras.core.errors import DataError
from sft_keras.data.examples import Splits
from sft_keras.data.listing import Listing
from sft_keras.data.splits import build_splits
from sft_keras.recipe.data import Data
from sft_keras.vision.sources.arrays import Arrays
from sft_keras.vision.sources.builtin import list_arrays, list_digits, list_synthetic
from sft_keras.vision.sources.csv import list_csv
from sft_keras.vision.sources.folder import list_folder
from sft_keras.vision.sources.tfds import list_tfds


def list_source(data: Data, seed: int) -> Listing:
    """Return the contents of an image source.

    Args:
      data: The recipe's data section.
      seed: The seed of synthetic images.

    Raises:
      DataError: If the source does not exist.
    """
    if isinstance(data.source, Arrays):
        return list_arrays(data.source)
    source = data.source if isinstance(data.source, str) else ""
    kind, _, name = source.partition(":")
    if kind == "folder":
        return list_folder(name, data.outside)
    if kind == "csv":
        return list_csv(data)
    if kind == "tfds":
        return list_tfds(name, data.data_dir)
    if kind == "synthetic":
        return list_synthetic(name, seed)
    if kind == "digits":
        return list_digits()
    raise DataError(
        "`data.source` must be tfds:NAME, folder:PATH, csv:PATH, digits, synthetic:NUM_CLASSES or "
        f"Arrays. Received: {data.source!r}."
    )


def open_data(data: Data, seed: int) -> Splits:
    """List the examples of a source and create the splits that it lacks, without decoding.

    Args:
      data: The recipe's data section.
      seed: The same seed creates the same splits.

    Raises:
      DataError: Listing every fault that can be detected without decoding.
    """
    return build_splits(list_source(data, seed), data, seed)
