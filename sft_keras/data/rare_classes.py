"""Classes with too few examples for every split, and classes that are left without examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sft_keras.core.errors import DataError
from sft_keras.data.examples import Splits
from sft_keras.data.listing import Listing, preview

_MAX_LISTED = 20


@dataclasses.dataclass(frozen=True)
class RareClasses:
    """What happens to the rare classes of a source.

    Attributes:
      listing: The source, without examples that are dropped.
      kept_in_train: Rare classes whose examples all stay in the training split.
      emptied: Classes that had examples, all of which are dropped or excluded.
      faults: One sentence if rare classes are an error.
    """

    listing: Listing
    kept_in_train: frozenset[int]
    emptied: frozenset[int]
    faults: tuple[str, ...]


def settle_rare_classes(
    listing: Listing,
    missing: Sequence[str],
    option: Literal["error", "train", "drop"],
    excluded: frozenset[str],
) -> RareClasses:
    """Apply `data.rare_classes` to a source whose examples have one class each.

    A class is rare if it cannot have an example in each split that is created; or, where splits
    are those of the source, if the training split has none. Excluded examples count when splits are
    made, so that excluding some moves no others, except those of rare classes.

    Args:
      listing: The contents of the source.
      missing: The splits that are created.
      option: As in `Data.rare_classes`.
      excluded: Ids of excluded examples.
    """
    train = listing.parts.get("train")
    if train is None or any(part.occurrences is not None for part in listing.parts.values()):
        return RareClasses(listing, frozenset(), frozenset(), ())
    needed = len(missing) + 1 if train.groups is None else 1
    before, in_train = _counts(listing, tuple(listing.parts)), _counts(listing, ("train",))
    rare = np.flatnonzero((before > 0) & (in_train < needed))
    # Classes without a training example are faults of the listing, unless they are dropped.
    included = _counts(
        listing.without(excluded), tuple(listing.parts) if option == "drop" else ("train",)
    )
    settled = frozenset(rare[included[rare] > 0].tolist())
    unwanted = {
        id_
        for part in listing.parts.values()
        for id_, label in zip(part.ids, part.labels.tolist())
        if label in rare and (option == "drop" or id_ in excluded)
    }
    kept = listing.without(unwanted)
    after = _counts(kept.without(excluded), tuple(listing.parts))
    emptied = frozenset(np.flatnonzero((before > 0) & (after == 0)).tolist())
    names = preview(
        [f"{listing.class_names[label]!r} ({included[label]})" for label in sorted(settled)],
        _MAX_LISTED,
    )
    notes: list[str] = []
    dropped: dict[str, int] = {}
    faults: tuple[str, ...] = ()
    if settled and option == "error":
        faults = (_fault(names, needed, missing),)
    elif settled:
        happened = "stay in the training split" if option == "train" else "were dropped"
        notes.append(f"Classes with fewer than {needed} training examples {happened}: {names}.")
        if option == "drop":
            dropped["of rare classes"] = len(unwanted - excluded)
    excluded_classes = emptied - settled
    if excluded_classes:
        names = preview([repr(listing.class_names[label]) for label in sorted(excluded_classes)])
        notes.append(f"All examples of these classes are excluded: {names}.")
    kept = dataclasses.replace(kept, facts=_with_notes(kept.facts, dropped, notes))
    kept_in_train = settled if option == "train" else frozenset()
    return RareClasses(kept, kept_in_train, emptied, faults)


def without_empty_classes(splits: Splits, emptied: frozenset[int]) -> Splits:
    """Return the splits with classes renumbered that remain when others have no examples.

    Args:
      splits: The splits.
      emptied: Classes of which no split has an example.

    Raises:
      DataError: If fewer than two classes remain.
    """
    if not emptied:
        return splits
    kept = [label for label in range(splits.info.num_classes) if label not in emptied]
    names = tuple(splits.info.class_names[label] for label in kept)
    if len(kept) < 2:
        raise DataError(
            "There must be at least 2 classes. Without excluded and rare ones there remain: "
            f"{', '.join(map(repr, names)) or 'none'}."
        )
    number = np.full(splits.info.num_classes, -1, np.int32)
    number[kept] = np.arange(len(kept))
    info = dataclasses.replace(
        splits.info,
        class_names=names,
        counts={
            name: tuple(counts[label] for label in kept)
            for name, counts in splits.info.counts.items()
        },
    )
    renumbered = {
        name: dataclasses.replace(examples, labels=number[examples.labels])
        for name, examples in splits.by_name().items()
    }
    return Splits(**renumbered, info=info)


def _counts(listing: Listing, parts: Sequence[str]) -> np.ndarray:
    """Return the number of examples of each class in some parts, int64 [num_classes]."""
    num_classes = len(listing.class_names)
    labels = np.concatenate([listing.parts[part].labels for part in parts])
    labels = labels[(labels >= 0) & (labels < num_classes)]
    return np.bincount(labels.astype(np.int64), minlength=num_classes)


def _fault(names: str, needed: int, missing: Sequence[str]) -> str:
    splits = " and ".join(missing)
    return (
        f"Each class needs at least {needed} training examples, because the source has no split "
        f"for {splits}, which is created from them. Too small: {names}. "
        "Add examples, keep these classes in the training split (--set=data.rare_classes=train), "
        "drop them (--set=data.rare_classes=drop), or provide the splits yourself."
    )


def _with_notes(
    facts: Mapping[str, Any], dropped: Mapping[str, int], notes: Sequence[str]
) -> dict[str, Any]:
    changed = dict(facts)
    if dropped:
        changed["dropped"] = {**facts.get("dropped", {}), **dropped}
    if notes:
        changed["notes"] = [*facts.get("notes", []), *notes]
    return changed
