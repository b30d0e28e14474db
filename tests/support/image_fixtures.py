"""Fixtures for small images in memory and on disk."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def gradient() -> np.ndarray:
    """A smooth image with three different channels, uint8 [48, 64, 3]."""
    row, column = np.mgrid[0:48, 0:64]
    pixels = np.stack([column * 4, row * 5, 255 - column * 4], axis=-1)
    return pixels.astype(np.uint8)


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """A function (pixels, format, mode=None, **options) that encodes an image with Pillow."""

    def encode_image(
        pixels: np.ndarray, kind: str, mode: str | None = None, **options: Any
    ) -> bytes:
        image = Image.fromarray(pixels)
        file = io.BytesIO()
        (image.convert(mode) if mode else image).save(file, kind, **options)
        return file.getvalue()

    return encode_image


@pytest.fixture(scope="session")
def write_folders(encode: Callable[..., bytes]) -> Callable[[Path, Mapping[str, int]], Path]:
    """A function (root, {folder: number of images}) that writes random PNG files."""

    def write(root: Path, images: Mapping[str, int]) -> Path:
        random = np.random.default_rng(0)
        for folder, count in images.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = random.integers(0, 256, (9, 12, 3)).astype(np.uint8)
                (root / folder / f"{number:03}.png").write_bytes(encode(pixels, "PNG"))
        return root

    return write
