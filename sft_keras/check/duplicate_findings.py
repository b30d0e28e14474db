"""Examples that are the same, or nearly: in one split, across splits, with different labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft_keras.check.dataset_view import Together
from sft_keras.check.findings import Finding
from sft_keras.check.near_duplicates import closer_look, groups_of_near, groups_of_same, near_pairs
from sft_keras.core.reporter import Reporter
from sft_keras.data.examples import SPLITS
from sft_keras.data.prepared import Prepared

_LEAKED = 0.01  # share of the validation or test split; beyond it the score is not to be trusted
_NEAR = 0.7  # cosine; a closer look then tells the same picture from another of its kind


def same_findings(together: Together, drops_same: bool) -> list[Finding]:
    """Returns examples that are read as exactly the same.

    Args:
      together: All examples.
      drops_same: Whether a run of the recipe leaves out all but one by itself.
    """
    groups = groups_of_same(together.digests)
    found = _duplicate_findings(
        together,
        groups,
        ("same across splits", "same within a split", "same with different labels"),
        "exactly the same",
        lambda index: together.label(index),
    )
    if not drops_same:
        return found
    dropped = " A run of this recipe leaves them out by itself (task.clean.duplicates)."
    # Of those with different labels it keeps each label once within a split.
    return [
        finding
        if "labels" in finding.kind
        else dataclasses.replace(finding, spoils=False, what=finding.what + dropped)
        for finding in found
    ]


def near_findings(
    features: np.ndarray,
    prepared: Mapping[str, Prepared],
    together: Together,
    reporter: Reporter,
) -> list[Finding]:
    """Returns examples of like features, float [n, d], that are alike on a closer look too."""
    same = {
        index: number
        for number, members in enumerate(groups_of_same(together.digests))
        for index in members
    }
    look = closer_look(prepared)

    def confirms(first: int, second: int) -> bool:
        if first in same and same[first] == same.get(second):
            return False  # found as the same already
        return look(first, second)

    pairs = near_pairs(
        features,
        _NEAR,
        confirms,
        lambda done, total: reporter.progress(f"near-duplicates {done}/{total}"),
    )
    likeness: dict[int, float] = {}
    for pair in pairs:
        for index in (pair.first, pair.second):
            likeness[index] = max(likeness.get(index, -1.0), pair.similarity)
    return _duplicate_findings(
        together,
        groups_of_near(pairs, len(features)),
        (
            "nearly the same across splits",
            "nearly the same within a split",
            "nearly the same with different labels",
        ),
        "nearly the same",
        lambda index: f"{together.label(index)} {likeness[index]:.3f}".strip(),
    )


def _duplicate_findings(
    together: Together,
    groups: Sequence[Sequence[int]],
    kinds: tuple[str, str, str],
    how: str,
    note: Callable[[int], str],
) -> list[Finding]:
    across, within, differ = [], [], []
    leaked: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for members in groups:
        splits = {together.ids[index][0] for index in members}
        labels = {together.labels[index] for index in members}
        if together.one_label and len(labels) > 1:
            differ.append(members)
        elif len(splits) > 1:
            across.append(members)
        else:
            within.append(members)
        if len(splits) > 1:
            for index in members:
                leaked[together.ids[index][0]] += 1
    worst = max(leaked[name] / max(together.sizes[name], 1) for name in ("validation", "test"))
    made = [
        (
            kinds[0],
            f"Of {how} examples some are in one split and some in another: the score is partly of "
            f"what was learnt by heart ({worst:.1%} of a split). Leave out all but one.",
            across,
            worst > _LEAKED,
            True,
        ),
        (
            kinds[2],
            f"Examples are {how} and have different labels: at most one of these is right.",
            differ,
            sum(map(len, differ)) > _LEAKED * sum(together.sizes.values()),
            False,
        ),
        (kinds[1], f"Examples are {how}; they count several times.", within, False, True),
    ]
    return [
        Finding(
            kind, what, tuple(together.group(each, note) for each in groups), spoils, keeps_first
        )
        for kind, what, groups, spoils, keeps_first in made
        if groups
    ]
