"""From what the recipe says of its data to splits; every fault in one error."""

from __future__ import annotations

from absl import logging

from sft_keras.data.array_source import list_arrays, list_digits, list_synthetic
from sft_keras.data.arrays import Arrays
from sft_keras.data.csv_table import list_csv
from sft_keras.data.examples import Splits
from sft_keras.data.exclusion import excluded_ids, require_known
from sft_keras.data.folder import list_folder
from sft_keras.data.listing import Listing, shown
from sft_keras.data.splits import make_splits, split_faults
from sft_keras.data.tfds_source import list_tfds
from sft_keras.errors import DataError, numbered
from sft_keras.recipe import Data


def open_source(data: Data, seed: int) -> Splits:
    """See `sft_keras.data.open_data`."""
    return splits_of(list_source(data, seed), data, seed)


def splits_of(listing: Listing, data: Data, seed: int) -> Splits:
    """Returns the splits of what a source holds.

    Raises:
      DataError: Listing every fault.
    """
    source = data.source if isinstance(data.source, str) else repr(data.source)
    faults = [*listing.all_faults(), *split_faults(listing)]
    if faults:
        raise DataError(numbered(f"The data of {source!r} cannot be trained on.", faults))
    shares = {"validation": data.validation, "test": data.test}
    excluded = excluded_ids(data.exclude)
    require_known(excluded, (each for part in listing.parts.values() for each in part.ids))
    splits = make_splits(listing, source, shares, seed, excluded)
    _warn_of_unused_classes(splits)
    return splits


def list_source(data: Data, seed: int) -> Listing:
    """Returns what the source holds.

    Raises:
      DataError: If it is not there.
    """
    if isinstance(data.source, Arrays):
        return list_arrays(data.source)
    kind, _, name = data.source.partition(":")
    if kind == "folder":
        return list_folder(name, data.outside)
    if kind == "csv":
        return list_csv(name, data.outside)
    if kind == "tfds":
        return list_tfds(name, data.data_dir)
    if kind == "synthetic":
        return list_synthetic(name, seed)
    if kind == "digits":
        return list_digits()
    raise DataError(
        "`data.source` must be tfds:NAME, folder:PATH, csv:PATH, digits, synthetic:NUM_CLASSES or "
        f"an Arrays. Received: {data.source!r}."
    )


def _warn_of_unused_classes(splits: Splits) -> None:
    counts = splits.info.counts["train"]
    unused = [name for name, count in zip(splits.info.class_names, counts) if not count]
    if unused:
        logging.warning("Classes without an example, which nothing can learn: %s.", shown(unused))
