"""Images and labels in memory. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from sft_keras.recipe.in_memory import InMemorySource


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Arrays(InMemorySource):
    """Images and labels in memory, as a data source.

    Each split is (images, labels): images uint8 or float in 0..255, [n, height, width],
    [n, height, width, 1] or [n, height, width, 3] (RGB); labels whole numbers from 0, or names of
    classes, [n] or [n, 1].

    Attributes:
      train: The training split.
      validation: The validation split; None to create it from `train`.
      test: The test split; None to create it from `train`.
      class_names: The names of labels 0, 1, ...; None for "0", "1", ... or, where labels are names,
        these in alphabetical order.

    Example:

    >>> import numpy as np
    >>> from sft_keras import Arrays, Data
    >>> images = np.zeros((40, 32, 32, 3), np.uint8)
    >>> labels = np.arange(40) % 2
    >>> source = Arrays(train=(images, labels), class_names=["cat", "dog"])
    >>> source
    Arrays(train=uint8[40, 32, 32, 3] + int64[40], class_names=2)
    >>> data = Data(source=source, validation=0.2, test=0.2)
    """

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray] | None = None
    test: tuple[np.ndarray, np.ndarray] | None = None
    class_names: Sequence[str] | None = None

    def __repr__(self) -> str:
        parts = [f"{name}={_shape(pair)}" for name, pair in self.given().items()]
        if self.class_names is not None:
            parts.append(f"class_names={len(self.class_names)}")
        return f"Arrays({', '.join(parts)})"

    def faults(self) -> list[str]:
        """Return what is wrong with the arrays, one sentence each."""
        faults = []
        for name, pair in self.given().items():
            if isinstance(pair, tuple | list) and len(pair) == 2:
                images, labels = _as_array(pair[0]), as_labels(pair[1])
                if images is None:
                    faults.append(
                        f"The images of `{name}` must have one size. Received images of several. "
                        "Resize them, or write them to files and use folder:PATH or csv:PATH."
                    )
                    continue
                faults += _image_faults(name, images)
                faults += _label_faults(name, labels, self.class_names)
                if images.ndim and labels.ndim and len(images) != len(labels):
                    faults.append(
                        f"`{name}` must have as many labels as images. "
                        f"Received: {len(images)} images and {len(labels)} labels."
                    )
            else:
                faults.append(f"`{name}` must be (images, labels). Received: {type(pair)}.")
        names = self.class_names
        if names is not None and len(set(names)) < len(names):
            faults.append(f"`class_names` must be unique. Received: {', '.join(map(str, names))}.")
        return faults


def as_labels(labels: object) -> np.ndarray:
    """Return labels as an array [n]; a second axis of length 1 is dropped.

    >>> as_labels([["cat"], ["dog"]]).tolist()
    ['cat', 'dog']
    """
    array = np.asarray(labels)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def are_names(labels: np.ndarray) -> bool:
    """Return whether labels are names of classes."""
    if labels.dtype.kind == "O":
        return bool(len(labels)) and all(isinstance(label, str) for label in labels.flat)
    return labels.dtype.kind == "U"


def _as_array(images: object) -> np.ndarray | None:
    """Return images as one array; None if their sizes differ."""
    try:
        array = np.asarray(images)
    except ValueError:  # NumPy refuses ragged lists
        return None
    return None if array.dtype.kind == "O" else array


def _shape(pair: tuple[np.ndarray, np.ndarray]) -> str:
    arrays = (_as_array(pair[0]), as_labels(pair[1]))
    return " + ".join(
        "images of several sizes" if array is None else f"{_dtype(array)}{list(array.shape)}"
        for array in arrays
    )


def _dtype(array: np.ndarray) -> str:
    return "names" if are_names(array) else str(array.dtype)


def _image_faults(name: str, images: np.ndarray) -> list[str]:
    expected = "[n, height, width] or [n, height, width, 1 or 3]"
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        return [f"The images of `{name}` must be {expected}. Received: {list(images.shape)}."]
    if images.dtype.kind not in "uif":
        return [f"The images of `{name}` must be numbers. Received: {images.dtype}."]
    if 0 in images.shape:
        return [] if len(images) == 0 else [f"The images of `{name}` are empty."]
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # in this form, NaN is rejected too
        return [f"The images of `{name}` must lie in 0..255. Received: {low} to {high}."]
    if images.dtype.kind == "f" and 0 < high <= 1:
        return [
            f"The images of `{name}` must lie in 0..255. Received: {low} to {high}, which is "
            "nearly black; multiply them by 255."
        ]
    return []


def _label_faults(name: str, labels: np.ndarray, class_names: Sequence[str] | None) -> list[str]:
    expected = f"The labels of `{name}` must be whole numbers or names of classes, [n]."
    if labels.ndim == 2 and labels.dtype.kind in "buif":
        return [
            f"{expected} Received: {labels.dtype} {list(labels.shape)}. If they are one-hot, pass "
            "labels.argmax(axis=1)."
        ]
    if labels.ndim != 1:
        return [f"{expected} Received: {labels.dtype} {list(labels.shape)}."]
    if are_names(labels):
        known = set(labels.tolist() if class_names is None else class_names)
        unknown = sorted(set(labels.tolist()) - known)
        return [f"`class_names` lacks labels of `{name}`: {', '.join(unknown)}."] if unknown else []
    if labels.dtype.kind not in "uif":
        return [f"{expected} Received: {labels.dtype}."]
    fractional = labels[labels != np.floor(labels)] if labels.dtype.kind == "f" else labels[:0]
    return [f"{expected} Received: {fractional[0]}."] if len(fractional) else []
