"""In-memory sources: arrays, scikit-learn's digits, and synthetic images."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.listing import Listing, Part
from sft_keras.data.streams import random_access_part
from sft_keras.vision.sources.arrays import Arrays, are_names, as_labels

_SYNTHETIC_PER_CLASS = 24
_SYNTHETIC_SIZE = 40
_SYNTHETIC_NOISE = 60.0  # standard deviation, on the scale 0..255
_MOST_SYNTHETIC_CLASSES = 1000


def list_arrays(arrays: Arrays) -> Listing:
    """List the examples of arrays.

    Raises:
      DataError: If the arrays are not valid images and labels.
    """
    faults = arrays.faults()
    if faults:
        raise DataError(numbered(f"The arrays cannot be trained on: {arrays!r}.", faults))
    names: Iterable[object] | None = arrays.class_names
    given = {name: (images, as_labels(labels)) for name, (images, labels) in arrays.given().items()}
    if any(are_names(labels) for _, labels in given.values()):
        names = names or sorted({str(label) for _, labels in given.values() for label in labels})
    number_of = {str(name): number for number, name in enumerate(names or ())}
    splits = {
        name: (
            np.asarray(images),
            np.array([number_of[label] for label in labels.tolist()], np.int64)
            if are_names(labels)
            else labels.astype(np.int64),
        )
        for name, (images, labels) in given.items()
    }
    if names is None:
        largest = max((labels.max(initial=-1) for _, labels in splits.values()), default=-1)
        # There cannot be more classes than training examples: larger labels are faults.
        names = range(min(int(largest) + 1, len(splits["train"][1])))
    parts = {name: _part(name, images, labels) for name, (images, labels) in splits.items()}
    return Listing(tuple(map(str, names)), parts)


def list_digits() -> Listing:
    """List scikit-learn's 1797 handwritten digits, 8 x 8 pixels, rescaled to 0..255."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    parts = {"train": _part("digits", images, digits.target.astype(np.int64))}
    return Listing(tuple(map(str, digits.target_names)), parts)


def list_synthetic(num_classes: str, seed: int) -> Listing:
    """List 24 synthetic images per class, 40 x 40 pixels: noise around a hue per class.

    Args:
      num_classes: A number from 2 to 1000, as text.
      seed: The same seed makes the same images.

    Raises:
      DataError: If `num_classes` is not such a number.
    """
    if not num_classes.isdecimal() or not 2 <= int(num_classes) <= _MOST_SYNTHETIC_CLASSES:
        raise DataError(
            "`data.source` must be 'synthetic:NUM_CLASSES' with a number from 2 to "
            f"{_MOST_SYNTHETIC_CLASSES}. Received: 'synthetic:{num_classes}'."
        )
    count = int(num_classes)
    hues = [colorsys.hsv_to_rgb(label / count, 0.8, 0.7) for label in range(count)]
    labels = np.repeat(np.arange(count), _SYNTHETIC_PER_CLASS)
    shape = (_SYNTHETIC_SIZE, _SYNTHETIC_SIZE, 3)
    draw = np.random.default_rng(seed)
    images = np.empty((len(labels), *shape), np.uint8)
    for image, label in zip(images, labels):
        noise = draw.normal(0.0, _SYNTHETIC_NOISE, shape)
        image[:] = np.clip(np.multiply(hues[label], 255) + noise, 0, 255)
    names = tuple(f"hue_{label}" for label in range(count))
    return Listing(names, {"train": _part("synthetic", images, labels)})


def _part(name: str, images: np.ndarray, labels: np.ndarray) -> Part:
    ids = [f"{name}[{index}]" for index in range(len(labels))]
    pixels = np.rint(images).astype(np.uint8) if images.dtype != np.uint8 else images
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    with tf.device("CPU"):
        tensor = tf.convert_to_tensor(pixels)
    return random_access_part(ids, labels, lambda position: tf.gather(tensor, position))
