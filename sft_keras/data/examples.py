"""Labelled examples per split, before anything is read.

The rest of the package sees data only through these classes, whatever the source or the modality.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")


class RemoteReader(Protocol):
    """Reads batches of image files in other processes, as `sft_keras.data.service` does."""

    address: str
    timeout: float

    def batches(
        self, batches: Any, first: int, end: int | None, *, require_all: bool = True
    ) -> tf.data.Dataset:
        """Return the batches from `first` up to, but not including, `end`, in order."""

    def job(self, dataset: tf.data.Dataset, *, every_worker: bool = False) -> Any:
        """Start a job on the service."""

    def no_response_error(self, error: tf.errors.OpError) -> Exception:
        """Return the error to raise when the service sends nothing."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """The labelled examples of one split, not yet read.

    Attributes:
      name: "train", "validation" or "test".
      ids: The id of each example, the same in every run: its path, its id in tensorflow-datasets,
        or e.g. "train[17]".
      labels: int32 [n], 0 .. num_classes - 1. Where examples have no class or several, the stratum
        of each example when splits are made.
      stream: Returns a dataset of all examples. Takes None for stored order, or a seed, int64 [2]
        (symbolic or not), for a random order: the same seed gives the same order in any process.
        Elements are {"index": int64 scalar, the position in `ids`} with "image": the encoded file,
        a scalar string, or pixels, uint8 [height, width, 1 or 3] in 0..255; or with "texts":
        string [1], or [2] for pairs; or with "words": string [words] and "tags": int32 [words]; or
        with "question" and "context": string scalars, "answers": string [number of answers] and
        "starts": int32 [number of answers].
      occurrences: int [n, num_classes], how often each class occurs in each example; None where
        every example has exactly one class, its label.
      groups: object [n], the name of each example's group. All examples of a group, such as the
        questions on one article, are in the same split. None where examples are independent.
      paths: The file of each example, if `stream` shuffles them in the order of `shuffled_range`;
        else None.
      service: Reads those files for this process; None to read them here.
    """

    name: str
    ids: tuple[str, ...]
    labels: np.ndarray
    stream: Callable[[tf.Tensor | None], tf.data.Dataset] = dataclasses.field(repr=False)
    occurrences: np.ndarray | None = dataclasses.field(default=None, repr=False)
    groups: np.ndarray | None = dataclasses.field(default=None, repr=False)
    paths: tuple[str, ...] | None = dataclasses.field(default=None, repr=False)
    service: RemoteReader | None = dataclasses.field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def require_service(self) -> RemoteReader:
        """Return `service`.

        Raises:
          ValueError: If there is none, since this process reads the files.
        """
        if self.service is None:
            raise ValueError(f"The split {self.name!r} is read here, not by a data service.")
        return self.service

    def class_counts(
        self, num_classes: int, positions: np.ndarray | None = None
    ) -> tuple[int, ...]:
        """Return how often each class occurs in the examples at `positions`, or in all."""
        selected = slice(None) if positions is None else positions
        if self.occurrences is not None:
            return tuple(self.occurrences[selected].sum(axis=0).tolist())
        return tuple(np.bincount(self.labels[selected], minlength=num_classes).tolist())

    def subset(self, positions: np.ndarray) -> Examples:
        """Return the examples at `positions`, int64 [m] in ascending order."""
        new_index = np.full(len(self), -1, np.int64)
        new_index[positions] = np.arange(len(positions))

        def stream(seed: tf.Tensor | None) -> tf.data.Dataset:
            import tensorflow as tf

            renumbered = self.stream(seed).map(
                lambda example: {**example, "index": tf.gather(new_index, example["index"])}
            )
            return renumbered.filter(lambda example: example["index"] >= 0)

        return Examples(
            name=self.name,
            ids=tuple(self.ids[position] for position in positions),
            labels=self.labels[positions],
            stream=stream,
            occurrences=None if self.occurrences is None else self.occurrences[positions],
            groups=None if self.groups is None else self.groups[positions],
        )


def concatenate(first: Examples, second: Examples) -> Examples:
    """Return the examples of both splits, under the name of the first.

    Shuffled streams keep the two apart: all examples of `first` come before those of `second`. That
    is enough to read every example once, but not to train on the stream.
    """

    def stream(seed: tf.Tensor | None) -> tf.data.Dataset:
        shifted = second.stream(seed).map(
            lambda example: {**example, "index": example["index"] + len(first)}
        )
        return first.stream(seed).concatenate(shifted)

    return Examples(
        name=first.name,
        ids=(*first.ids, *second.ids),
        labels=np.concatenate([first.labels, second.labels]),
        stream=stream,
        occurrences=_concatenate_optional(first.occurrences, second.occurrences),
        groups=_concatenate_optional(first.groups, second.groups),
    )


def _concatenate_optional(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    return None if first is None or second is None else np.concatenate([first, second])


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """Facts about the data, for the model, the report and the exported model.

    Attributes:
      source: The source as the recipe names it.
      class_names: Names of the classes 0, 1, ...
      sizes: Number of examples per split.
      counts: Number of examples of each class per split; for examples with any number of classes,
        how often each class occurs.
      origin: Per split "from the source", or how it was created here.
      facts: Further facts on the source, as plain values. Any source may have "dropped": {reason:
        number of dropped examples or files} and "notes": [sentences on how the data was read];
        "excluded" is {split: number of examples that `Data.exclude` removed}. Texts have "texts":
        1, or 2 for pairs; questions the number of corrected answers; numeric labels "numbers":
        {"mean", "deviation", "lowest", "highest"} of the training split.
    """

    source: str
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]
    counts: Mapping[str, tuple[int, ...]]
    origin: Mapping[str, str]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def summary(self) -> str:
        """Return the source, the sizes of the splits and the number of classes in one line."""
        sizes = ", ".join(f"{size} {name}" for name, size in self.sizes.items())
        classes = f"; {self.num_classes} classes" if self.num_classes else ""
        return f"{self.source}: {sizes}{classes}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "source": self.source,
            "class_names": list(self.class_names),
            "sizes": dict(self.sizes),
            "counts": {name: list(counts) for name, counts in self.counts.items()},
            "origin": dict(self.origin),
            "facts": dict(self.facts),
        }


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three splits of a source; no example is in two of them."""

    train: Examples
    validation: Examples
    test: Examples
    info: DataInfo

    def by_name(self) -> dict[str, Examples]:
        """Return the splits by name, in the order of `SPLITS`."""
        return {name: getattr(self, name) for name in SPLITS}

    def as_json(self) -> dict[str, Any]:
        """Return the ids of the examples in each split, as plain values."""
        return {
            "source": self.info.source,
            "origin": dict(self.info.origin),
            "class_names": list(self.info.class_names),
            "ids": {name: list(split.ids) for name, split in self.by_name().items()},
        }
