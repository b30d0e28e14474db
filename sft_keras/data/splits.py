"""Create the splits that a source lacks from its training examples, in a seeded way.

Splits are stratified by class, or made of whole groups where examples belong together.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Mapping

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from sft_keras.core.errors import DataError, numbered
from sft_keras.data.examples import SPLITS, DataInfo, Examples, Splits
from sft_keras.data.exclude import read_excluded_ids, require_known_ids
from sft_keras.data.listing import Listing, Part, preview
from sft_keras.data.rare_classes import settle_rare_classes, without_empty_classes
from sft_keras.recipe.data import Data

_LOG = logging.getLogger(__name__)


def missing_splits(listing: Listing) -> tuple[str, ...]:
    """Return the splits that must be created, in the order in which they are split off.

    The test split comes first, so that it does not depend on the share for validation.
    """
    return tuple(name for name in ("test", "validation") if name not in listing.parts)


def split_faults(listing: Listing) -> list[str]:
    """Return one sentence if examples or groups are too few to create the splits."""
    missing = missing_splits(listing)
    if not missing or "train" not in listing.parts or not listing.parts["train"].ids:
        return []
    train = listing.parts["train"]
    needed = len(missing) + 1
    splits = " and ".join(missing)
    if train.groups is not None:
        count = len(set(train.groups))
        if count >= needed:
            return []
        return [
            f"There must be at least {needed} {train.group_noun} to train on, because the source "
            f"has no split for {splits}, which is made of whole {train.group_noun}. "
            f"Received: {count}."
        ]
    if any(part.occurrences is not None for part in listing.parts.values()):
        # The labels are strata chosen by the source, small only if there are few examples.
        _, counts = np.unique(train.labels, return_counts=True)
        if counts.min() >= needed:
            return []
        return [
            f"There must be at least {needed} training examples, because the source has no split "
            f"for {splits}, which is created from them. Received: {counts.min()}."
        ]
    return []


def make_splits(
    listing: Listing,
    source: str,
    shares: Mapping[str, float],
    seed: int,
    excluded: frozenset[str] = frozenset(),
    kept_in_train: frozenset[int] = frozenset(),
) -> Splits:
    """Return the three splits; those of the source stay unchanged.

    Args:
      listing: The contents of the source, without faults.
      source: The source as the recipe names it.
      shares: Per split, its share of the source's training examples (0..1) if it is created here.
      seed: The same seed creates the same splits.
      excluded: Ids of examples to remove from the finished splits.
      kept_in_train: Classes whose examples all stay in the training split.

    Raises:
      DataError: If the shares are too large for the number of examples, or a split ends up empty.
    """
    train = listing.parts["train"]
    total = len(train.ids)
    is_kept = np.isin(train.labels, list(kept_in_train))
    remaining = np.flatnonzero(~is_kept)
    chosen: dict[str, tuple[Part, np.ndarray]] = {}
    origin = dict.fromkeys(SPLITS, "from the source")
    for name in missing_splits(listing):
        share = shares[name]
        method = "of train, stratified" + (" by class" if train.occurrences is None else "")
        if train.groups is None:
            labels, size = train.labels[remaining], round(share * total)
            remaining, held_out = hold_out(remaining, labels, size, seed, name)
        else:
            groups, size = train.groups[remaining], round(share * len(set(train.groups)))
            remaining, held_out = hold_out_groups(remaining, groups, size, seed, name)
            method = f"of the {train.group_noun} of train, none of which is in two splits"
        chosen[name] = train, held_out
        origin[name] = f"created here: {share:.4g} {method}, seed {seed}"
    remaining = np.sort(np.concatenate([remaining, np.flatnonzero(is_kept)]))
    if chosen:
        origin["train"] = f"created here: the remaining {len(remaining):,} of {total:,}"
    chosen["train"] = train, remaining
    for name in set(SPLITS) - set(chosen):
        part = listing.parts[name]
        chosen[name] = part, np.arange(len(part.ids))
    splits = {name: _examples(name, *parts, excluded) for name, parts in chosen.items()}
    facts = dict(listing.facts)
    if excluded:
        facts["excluded"] = {name: len(chosen[name][1]) - len(splits[name]) for name in SPLITS}
    num_classes = len(listing.class_names)
    info = DataInfo(
        source=source,
        class_names=listing.class_names,
        sizes={name: len(splits[name]) for name in SPLITS},
        counts={name: splits[name].class_counts(num_classes) for name in SPLITS},
        origin=origin,
        facts=facts,
    )
    return Splits(**splits, info=info)


def hold_out(
    positions: np.ndarray, labels: np.ndarray, size: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Divide positions in two, stratified by class.

    Args:
      positions: int64 [n].
      labels: int64 [n], the class of each position.
      size: Number of positions to hold out, at least one per class.
      seed: The same seed holds out the same positions.
      name: The name of the held-out split, for the error message.

    Returns:
      (remaining, held out), both int64 in ascending order.

    Raises:
      DataError: If there are too few positions.
    """
    size = max(size, len(np.unique(labels)))
    try:
        remaining, held_out = train_test_split(
            positions, test_size=size, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise DataError(
            f"The {name!r} split cannot be created: it needs {size} of {len(positions)} examples "
            f"in {len(np.unique(labels))} classes ({error}) "
            "Use smaller shares for `data.test` and `data.validation`, or add examples."
        ) from error
    return np.sort(remaining), np.sort(held_out)


def hold_out_groups(
    positions: np.ndarray, groups: np.ndarray, size: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Divide positions in two so that no group is in both halves.

    Args:
      positions: int64 [n].
      groups: object [n], the name of each position's group.
      size: Number of groups to hold out, at least one.
      seed: The same seed holds out the same groups.
      name: The name of the held-out split, for the error message.

    Returns:
      (remaining, held out), both int64 in ascending order.

    Raises:
      DataError: If there are too few groups.
    """
    splitter = GroupShuffleSplit(1, test_size=max(1, size), random_state=seed)
    try:
        ((remaining, held_out),) = splitter.split(positions, groups=groups)
    except ValueError as error:
        raise DataError(
            f"The {name!r} split cannot be created: it needs {size} of {len(set(groups))} groups "
            f"({error}). Use smaller shares for `data.test` and `data.validation`, or add examples."
        ) from error
    return positions[np.sort(remaining)], positions[np.sort(held_out)]


def _examples(name: str, part: Part, positions: np.ndarray, excluded: frozenset[str]) -> Examples:
    kept = [position for position in positions if part.ids[position] not in excluded]
    positions = np.array(kept, np.int64)
    if not len(positions):
        raise DataError(f"`data.exclude` leaves no examples in the {name!r} split.")
    paths = part.paths
    return Examples(
        name=name,
        ids=tuple(part.ids[position] for position in positions),
        labels=part.labels[positions].astype(np.int32),
        stream=functools.partial(part.stream, positions),
        occurrences=None if part.occurrences is None else part.occurrences[positions],
        groups=None if part.groups is None else part.groups[positions],
        paths=None if paths is None else tuple(paths[position] for position in positions),
    )


def build_splits(listing: Listing, data: Data, seed: int) -> Splits:
    """Return the three splits of a source.

    Args:
      listing: The contents of the source.
      data: The recipe's data section.
      seed: The seed of the splits that are created here.

    Raises:
      DataError: Listing every fault of the source.
    """
    source = data.source if isinstance(data.source, str) else repr(data.source)
    excluded = read_excluded_ids(data.exclude)
    known = itertools.chain(listing.dropped_ids, *(part.ids for part in listing.parts.values()))
    require_known_ids(excluded, known)
    rare = settle_rare_classes(listing, missing_splits(listing), data.rare_classes, excluded)
    listing = rare.listing
    faults = [
        *rare.faults,
        *listing.without(excluded).all_faults(),
        *split_faults(listing),
    ]
    if faults:
        raise DataError(numbered(f"The data of {source!r} cannot be trained on.", faults))
    shares = {"validation": data.validation, "test": data.test}
    splits = make_splits(listing, source, shares, seed, excluded, rare.kept_in_train)
    splits = without_empty_classes(splits, rare.emptied)
    _warn_of_unused_classes(splits)
    return splits


def _warn_of_unused_classes(splits: Splits) -> None:
    counts = splits.info.counts["train"]
    unused = [name for name, count in zip(splits.info.class_names, counts) if not count]
    if unused:
        _LOG.warning(
            "Classes without a training example, which the model cannot learn: %s.",
            preview(unused),
        )
