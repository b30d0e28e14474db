"""Findings from the pixels that a model reads: images of one colour."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sft_keras.check.findings import Example, Finding
from sft_keras.data.batches import ordered_batches
from sft_keras.data.prepared import Prepared

_BATCH_SIZE = 64
_MAX_RANGE = 4  # grey levels; what JPEG makes of a single colour


def one_colour_findings(prepared: Mapping[str, Prepared]) -> list[Finding]:
    """Return a finding with the images whose pixels are (nearly) all of one colour.

    They are empty files, failed downloads, or shapes that only their transparency showed, and a
    model can learn nothing from them but their class.

    Args:
      prepared: The splits of images; model inputs are pixels in 0..255, [height, width, 3].
    """
    groups: list[tuple[Example, ...]] = []
    for name, split in prepared.items():
        number = 0
        for batch in ordered_batches(split, _BATCH_SIZE):
            pixels = batch["input"].numpy().astype(np.int16)
            ranges = np.ptp(pixels.reshape(len(pixels), -1, pixels.shape[-1]), axis=1).max(axis=1)
            for row in np.flatnonzero(ranges <= _MAX_RANGE).tolist():
                colour = ", ".join(map(str, pixels[row, 0, 0].tolist()))
                id_ = split.examples.ids[number + row]
                groups.append((Example(name, id_, f"colour {colour}"),))
            number += len(pixels)
    if not groups:
        return []
    return [
        Finding(
            "images of one colour",
            "All their pixels have the same colour, so they show nothing. Look at the files; for "
            "shapes drawn by transparency, try another task.background.",
            tuple(groups),
        )
    ]
