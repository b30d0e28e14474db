"""What the header of an image file says: too small, too large, or not what it seems."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping

from PIL import Image, UnidentifiedImageError

from sft_keras.check.findings import Example, Finding
from sft_keras.data.examples import Examples

_TINY_SHARE = 0.5  # of the side that the network reads
_HUGE = 25_000_000  # pixels
_RGB = ("RGB",)
_GREY = ("L", "1", "I", "I;16", "F", "LA")


def image_file_findings(
    splits: Mapping[str, Examples],
    image_size: tuple[int, int],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """Looks at the header of every encoded image; pixels given as arrays have none.

    Args:
      splits: The examples.
      image_size: (height, width) that the network reads, in pixels.
      progress: Called with (done, total).
    """
    tiny, huge, modes = [], [], {}
    total, done = sum(map(len, splits.values())), 0
    seen = 0
    for name, examples in splits.items():
        for element in examples.stream(None):
            done += 1
            if done % 100 == 0:
                progress(done, total)
            if element["image"].dtype != "string":
                break
            header = _header(element["image"].numpy())
            if header is None:  # what cannot be decoded is another finding
                continue
            width, height, mode = header
            seen += 1
            example = Example(name, examples.ids[int(element["index"])], f"{width} x {height}")
            if min(height / image_size[0], width / image_size[1]) < _TINY_SHARE:
                tiny.append((example,))
            if width * height > _HUGE:
                huge.append((example,))
            modes.setdefault(mode, []).append((example,))
    return [*_sizes(tiny, huge, image_size), *_modes(modes, seen)]


def _sizes(tiny: list, huge: list, image_size: tuple[int, int]) -> list[Finding]:
    findings = []
    height, width = image_size
    if tiny:
        findings.append(
            Finding(
                "tiny images",
                f"Less than half of the {width} x {height} pixels that the network reads: it sees "
                "a blur. Look whether they are thumbnails, or use a smaller backbone.image_size.",
                tuple(tiny),
            )
        )
    if huge:
        findings.append(
            Finding(
                "huge images",
                f"Over {_HUGE:,} pixels: they are decoded whole before they are made small, in "
                "every run. Scale them down once.",
                tuple(huge),
            )
        )
    return findings


def _modes(modes: Mapping[str, list], seen: int) -> list[Finding]:
    """Returns the kinds of pixels that are rare in the data: often they are other pictures."""
    findings = []
    grey = [group for mode in _GREY for group in modes.get(mode, ())]
    if grey and len(grey) < 0.5 * seen:
        findings.append(
            Finding(
                "grey among colour images",
                "They are spread over three channels. If one class has most of them, the network "
                "learns greyness instead of the class.",
                tuple(grey),
            )
        )
    other = [
        group for mode, groups in modes.items() if mode not in (*_RGB, *_GREY) for group in groups
    ]
    if other and len(other) < 0.5 * seen:
        kinds = ", ".join(sorted(mode for mode in modes if mode not in (*_RGB, *_GREY)))
        findings.append(
            Finding(
                "neither RGB nor grey",
                f"Pixels are {kinds}. Transparency is dropped and CMYK becomes RGB, which may not "
                "look as intended.",
                tuple(other),
            )
        )
    return findings


def _header(encoded: bytes) -> tuple[int, int, str] | None:
    """Returns (width, height, mode) as a file's header says, without decoding it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decompression bombs, which are not decoded here
            with Image.open(io.BytesIO(encoded)) as image:
                return *image.size, image.mode
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
