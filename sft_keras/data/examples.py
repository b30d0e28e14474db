"""What the rest of the package knows of the data: examples per split, not yet read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")


class RemoteReader(Protocol):
    """Reads batches of image files in other processes; see `sft_keras.data.service`."""

    address: str

    def batches(
        self, batches: Any, first: int, end: int | None, *, whole: bool = True
    ) -> tf.data.Dataset:
        """Return the batches from `first` to before `end`, in order."""

    def job(self, dataset: tf.data.Dataset, *, by_all: bool = False) -> Any:
        """Start a job on the service."""

    def no_response_error(self, error: tf.errors.OpError) -> Exception:
        """Return the error to raise when the service sends nothing."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split's labelled examples, not yet read.

    Attributes:
      name: "train", "validation" or "test".
      ids: What each example is called, the same in every run: its path, its id in
        tensorflow-datasets, or e.g. "train[17]".
      labels: int32 [n], 0 .. num_classes - 1; where an example has no label or several, the
        group by which it is stratified.
      stream: Makes a dataset of all examples. Takes None for stored order, or a seed, int64 [2]
        (symbolic or not), by which they are shuffled: the same seed gives the same order in any
        process. Elements are {"index": int64 scalar, the position in `ids`} with "image": the
        encoded file, a scalar string, or pixels, uint8 [height, width, 1 or 3] in 0..255; or with
        "texts": string [1], or [2] for pairs; or with "words": string [words], and "tags": int32
        [words]; or with "question" and "context": string scalars, "answers": string [any number],
        and "starts": int32 [as many].
      occurrences: int [n, num_classes], how often each class is there in each example; None where
        each example is of one class, its label.
      groups: object [n], the name of the group of each example; those of a group, such as questions
        on one article, are all in one split. None where each is by itself.
      paths: The file of each example, where the order of `stream` is that of `shuffled_range`;
        else None.
      service: What reads those files for this process; None for itself.
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

    def class_counts(
        self, num_classes: int, positions: np.ndarray | None = None
    ) -> tuple[int, ...]:
        """Returns how often each class is there among the examples at `positions`, or all."""
        chosen = slice(None) if positions is None else positions
        if self.occurrences is not None:
            return tuple(self.occurrences[chosen].sum(axis=0).tolist())
        return tuple(np.bincount(self.labels[chosen], minlength=num_classes).tolist())

    def subset(self, positions: np.ndarray) -> Examples:
        """Returns the examples at `positions`, int64 [m] in ascending order."""
        place = np.full(len(self), -1, np.int64)
        place[positions] = np.arange(len(positions))

        def stream(seed: tf.Tensor | None) -> tf.data.Dataset:
            import tensorflow as tf

            renumbered = self.stream(seed).map(
                lambda example: {**example, "index": tf.gather(place, example["index"])}
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
    """Returns the examples of both under the name of the first.

    In random order, too, those of the first come before those of the second: enough to read them
    from, but not to train on a stream of them.
    """

    def stream(seed: tf.Tensor | None) -> tf.data.Dataset:
        moved = second.stream(seed).map(
            lambda example: {**example, "index": example["index"] + len(first)}
        )
        return first.stream(seed).concatenate(moved)

    return Examples(
        name=first.name,
        ids=(*first.ids, *second.ids),
        labels=np.concatenate([first.labels, second.labels]),
        stream=stream,
        occurrences=(
            None
            if first.occurrences is None
            else np.concatenate([first.occurrences, second.occurrences])
        ),
        groups=None if first.groups is None else np.concatenate([first.groups, second.groups]),
    )


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """Facts about the data, for the model, the report and the exported model.

    Attributes:
      source: As the recipe says it.
      class_names: Names of the classes 0, 1, ...
      sizes: Examples per split.
      counts: Per split, examples of each class; or how often each occurs, where examples have any
        number of them.
      origin: Per split "from the source", or how it was made here.
      facts: What else a source says of itself, as plain values; of texts "texts": 1, or 2 for
        pairs, and "dropped": {why: how many examples were left out}; of questions also "mended":
        {what was done: how often}; where labels are numbers "numbers": {"mean", "deviation",
        "lowest", "highest"} of the training split's.
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
        """Returns the source, the sizes of the splits and how many classes, in a line."""
        sizes = ", ".join(f"{size} {name}" for name, size in self.sizes.items())
        classes = f"; {self.num_classes} classes" if self.num_classes else ""
        return f"{self.source}: {sizes}{classes}"

    def as_json(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
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
