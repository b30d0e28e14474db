"""The files of a source that has one for each split. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sft_keras.errors import DataError


def split_files(
    source: str, find: Callable[[Path], Mapping[str, Path]], wanted: str
) -> dict[str, Path]:
    """Returns the files of a source by split; a single file is that of "train".

    Args:
      source: As the recipe says it, "KIND:PATH".
      find: Returns what a folder has for each split.
      wanted: What it must have for training, in words.

    Raises:
      DataError: If there is nothing at the path, or nothing for training.
    """
    place = Path(source.partition(":")[2]).expanduser()
    if place.is_file():
        return {"train": place}
    if not place.is_dir():
        raise DataError(
            "`data.source` must name a file, or a folder of files, that exists. Received: "
            f"{source!r}, which is {place.absolute()}."
        )
    found = dict(find(place))
    if "train" not in found:
        there = ", ".join(entry.name for entry in sorted(place.iterdir())[:10]) or "nothing"
        raise DataError(f"{source!r} must have {wanted}. {place.absolute()} holds {there}.")
    return found
