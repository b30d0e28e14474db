"""Findings from image file headers: tiny, huge and unusually encoded images."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping

from PIL import Image, UnidentifiedImageError

from sft_keras.check.findings import Example, Finding
from sft_keras.data.examples import Examples

_TINY_SHARE = 0.5  # of a side of the model's input
_HUGE = 25_000_000  # pixels
_RARE_SHARE = 0.5  # of all images; a color mode above it is the normal case
_RGB = ("RGB",)
_TRANSPARENT = ("RGBA", "LA", "PA")
_GREY = ("L", "1", "I", "I;16", "F", "LA")

_Groups = list[tuple[Example, ...]]


def image_file_findings(
    splits: Mapping[str, Examples],
    image_size: tuple[int, int],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    """Return findings from the header of every encoded image; pixel arrays have no header.

    Args:
      splits: The examples.
      image_size: (height, width) of the model's input in pixels.
      progress: Called with (done, total) images.
    """
    tiny: _Groups = []
    huge: _Groups = []
    modes: dict[str, _Groups] = {}
    total, done, decoded = sum(map(len, splits.values())), 0, 0
    for name, examples in splits.items():
        for element in examples.stream(None):
            done += 1
            if done % 100 == 0:
                progress(done, total)
            if element["image"].dtype != "string":
                break
            header = _header(element["image"].numpy())
            if header is None:  # reported as unreadable
                continue
            width, height, mode = header
            decoded += 1
            example = Example(name, examples.ids[int(element["index"])], f"{width} x {height}")
            if min(height / image_size[0], width / image_size[1]) < _TINY_SHARE:
                tiny.append((example,))
            if width * height > _HUGE:
                huge.append((example,))
            modes.setdefault(mode, []).append((example,))
    return [*_size_findings(tiny, huge, image_size), *_mode_findings(modes, decoded)]


def _size_findings(tiny: _Groups, huge: _Groups, image_size: tuple[int, int]) -> list[Finding]:
    findings = []
    height, width = image_size
    if tiny:
        findings.append(
            Finding(
                "tiny images",
                f"A side is less than half of the {width} x {height} pixels that the model reads, "
                "so it sees a blur. Check whether these are thumbnails, or use a smaller "
                "backbone.image_size.",
                tuple(tiny),
            )
        )
    if huge:
        findings.append(
            Finding(
                "huge images",
                f"More than {_HUGE:,} pixels: every run decodes them at full size before "
                "downscaling them. Downscale the files once.",
                tuple(huge),
            )
        )
    return findings


def _mode_findings(modes: Mapping[str, _Groups], count: int) -> list[Finding]:
    """Return findings about color modes that are rare in the data and may mark a class.

    Args:
      modes: {Pillow mode: examples}.
      count: Number of images.
    """
    findings = []
    grey = [group for mode in _GREY for group in modes.get(mode, ())]
    if grey and len(grey) < _RARE_SHARE * count:
        findings.append(
            Finding(
                "grey among colour images",
                "They are expanded to three channels. If most of them belong to one class, the "
                "model learns to detect greyscale images instead of the class.",
                tuple(grey),
            )
        )
    transparent = [group for mode in _TRANSPARENT for group in modes.get(mode, ())]
    if len(transparent) >= _RARE_SHARE * count > 0:
        findings.append(
            Finding(
                "mostly transparent images",
                "At least half of the images have transparency. They are put on task.background: "
                "choose a colour on which what they show can be seen.",
                tuple(transparent),
            )
        )
    other_modes = sorted(mode for mode in modes if mode not in (*_RGB, *_GREY))
    other = [group for mode in modes if mode in other_modes for group in modes[mode]]
    if other and len(other) < _RARE_SHARE * count:
        findings.append(
            Finding(
                "neither RGB nor grey",
                f"Their color mode is {', '.join(other_modes)}. Transparent images are put on "
                "task.background and CMYK is converted to RGB, which may not look as intended.",
                tuple(other),
            )
        )
    return findings


def _header(encoded: bytes) -> tuple[int, int, str] | None:
    """Return (width, height, mode) from an image header, without decoding the pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decompression bombs; nothing is decoded here
            with Image.open(io.BytesIO(encoded)) as image:
                return *image.size, image.mode
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
