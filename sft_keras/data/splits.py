"""Splits off what a source lacks, stratified by class or by whole groups, and seeded."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from absl import logging
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.examples import SPLITS, DataInfo, Examples, Splits
from sft_keras.data.exclude import read_excluded_ids, require_known_ids
from sft_keras.data.listing import Listing, Part, preview
from sft_keras.recipe.data import Data


def missing_splits(listing: Listing) -> tuple[str, ...]:
    """Returns the splits that have to be made, in the order they are split off.

    The test split comes first, so that another share for validation leaves it as it is.
    """
    return tuple(name for name in ("test", "validation") if name not in listing.parts)


def split_faults(listing: Listing) -> list[str]:
    """Returns which classes are too small, or groups too few, for the splits that must be made."""
    made = missing_splits(listing)
    if not made or "train" not in listing.parts or not listing.parts["train"].ids:
        return []
    train = listing.parts["train"]
    labels, counts = np.unique(train.labels, return_counts=True)
    needed = len(made) + 1
    splits = " and ".join(made)
    if train.groups is not None:
        found = len(set(train.groups))
        if found >= needed:
            return []
        return [
            f"There must be at least {needed} {train.group_noun} to train on, because the source "
            f"has no split for {splits}, which gets whole ones. Received: {found}."
        ]
    if any(part.occurrences is not None for part in listing.parts.values()):
        # The labels are groups that the source made, small only where there are few examples.
        if counts.min() >= needed:
            return []
        return [
            f"There must be at least {needed} training examples, because the source has no split "
            f"for {splits} and it is split off from them. Received: {counts.min()}."
        ]
    small = [
        f"{listing.class_names[label]!r} ({count})"
        for label, count in zip(labels, counts)
        if count < needed and 0 <= label < len(listing.class_names)
    ]
    if not small:
        return []
    return [
        f"Each class needs at least {needed} training examples, because the source has no split "
        f"for {splits} and it is split off from them. Too small: {preview(small, 20)}. "
        "Add examples, remove these classes, or give the splits yourself."
    ]


def make_splits(
    listing: Listing,
    source: str,
    shares: Mapping[str, float],
    seed: int,
    excluded: frozenset[str] = frozenset(),
) -> Splits:
    """Returns the three splits; those in the source stay as they are.

    Args:
      listing: What the source holds, found to be without faults.
      source: As the recipe says it.
      shares: Per split, the share of the source's training examples that it gets if it is made.
      seed: The same seed makes the same splits.
      excluded: The ids of examples that are left out of the splits once they are made.

    Raises:
      DataError: If the shares are too large for the number of examples, or a split has none left.
    """
    train = listing.parts["train"]
    total = len(train.ids)
    rest = np.arange(total)
    splits: dict[str, Examples] = {}
    origin = dict.fromkeys(SPLITS, "from the source")
    for name in missing_splits(listing):
        share = shares[name]
        how = "of train, stratified" + (" by class" if train.occurrences is None else "")
        if train.groups is None:
            rest, held = hold_out(rest, train.labels[rest], round(share * total), seed, name)
        else:
            size = round(share * len(set(train.groups)))
            rest, held = hold_out_groups(rest, train.groups[rest], size, seed, name)
            how = f"of the {train.group_noun} of train, none of which is in two splits"
        splits[name] = _examples(name, train, held, excluded)
        origin[name] = f"made here: {share:.4g} {how}, seed {seed}"
    if "test" in splits or "validation" in splits:
        origin["train"] = f"made here: what was not split off, {len(rest)} of {total}"
    splits["train"] = _examples("train", train, rest, excluded)
    for name in SPLITS:
        if name not in splits:
            part = listing.parts[name]
            splits[name] = _examples(name, part, np.arange(len(part.ids)), excluded)
    num_classes = len(listing.class_names)
    info = DataInfo(
        source=source,
        class_names=listing.class_names,
        sizes={name: len(splits[name]) for name in SPLITS},
        counts={name: splits[name].class_counts(num_classes) for name in SPLITS},
        origin=origin,
        facts={**listing.facts, "excluded": len(excluded)} if excluded else listing.facts,
    )
    return Splits(**splits, info=info)


def hold_out(
    positions: np.ndarray, labels: np.ndarray, size: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Splits positions in two, each class in proportion.

    Args:
      positions: int64 [n].
      labels: int64 [n], their classes.
      size: How many to hold out; raised to the number of classes where it is below that.
      seed: The same seed holds out the same ones.
      name: What the held-out split is called, for the message.

    Returns:
      (what is left, what is held out), both int64 in ascending order.
    """
    size = max(size, len(np.unique(labels)))
    try:
        left, held = train_test_split(positions, test_size=size, random_state=seed, stratify=labels)
    except ValueError as error:
        raise DataError(
            f"The {name!r} split cannot be split off: of {len(positions)} examples in "
            f"{len(np.unique(labels))} classes, {size} were to be held out ({error}) "
            "Use smaller shares for `data.test` and `data.validation`, or add examples."
        ) from error
    return np.sort(left), np.sort(held)


def hold_out_groups(
    positions: np.ndarray, groups: np.ndarray, size: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Splits positions in two, no group in both.

    Args:
      positions: int64 [n].
      groups: object [n], the names of their groups.
      size: How many groups to hold out; at least one is.
      seed: The same seed holds out the same ones.
      name: What the held-out split is called, for the message.

    Returns:
      (what is left, what is held out), both int64 in ascending order.
    """
    made = GroupShuffleSplit(1, test_size=max(1, size), random_state=seed)
    try:
        ((left, held),) = made.split(positions, groups=groups)
    except ValueError as error:
        raise DataError(
            f"The {name!r} split cannot be split off: of {len(set(groups))} groups {size} were to "
            f"be held out ({error}) Use smaller shares for `data.test` and `data.validation`, or "
            "add examples."
        ) from error
    return positions[np.sort(left)], positions[np.sort(held)]


def _examples(name: str, part: Part, positions: np.ndarray, excluded: frozenset[str]) -> Examples:
    positions = np.array([each for each in positions if part.ids[each] not in excluded], np.int64)
    if not len(positions):
        raise DataError(f"`data.exclude` leaves no examples in the {name!r} split.")
    return Examples(
        name=name,
        ids=tuple(part.ids[position] for position in positions),
        labels=part.labels[positions].astype(np.int32),
        stream=functools.partial(part.stream, positions),
        occurrences=None if part.occurrences is None else part.occurrences[positions],
        groups=None if part.groups is None else part.groups[positions],
        paths=None if part.paths is None else tuple(part.paths[each] for each in positions),
    )


def build_splits(listing: Listing, data: Data, seed: int) -> Splits:
    """Returns the splits of what a source holds.

    Raises:
      DataError: Listing every fault.
    """
    source = data.source if isinstance(data.source, str) else repr(data.source)
    faults = [*listing.all_faults(), *split_faults(listing)]
    if faults:
        raise DataError(numbered(f"The data of {source!r} cannot be trained on.", faults))
    shares = {"validation": data.validation, "test": data.test}
    excluded = read_excluded_ids(data.exclude)
    require_known_ids(excluded, (each for part in listing.parts.values() for each in part.ids))
    splits = make_splits(listing, source, shares, seed, excluded)
    _warn_of_unused_classes(splits)
    return splits


def _warn_of_unused_classes(splits: Splits) -> None:
    counts = splits.info.counts["train"]
    unused = [name for name, count in zip(splits.info.class_names, counts) if not count]
    if unused:
        logging.warning("Classes without an example, which nothing can learn: %s.", preview(unused))
