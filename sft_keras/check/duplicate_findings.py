"""Findings about duplicates: within a split, across splits, and with different labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sft_keras.check.dataset_view import DatasetView
from sft_keras.check.findings import Example, Finding
from sft_keras.check.near_duplicates import (
    content_comparison,
    duplicate_groups,
    near_groups,
    near_pairs,
)
from sft_keras.core.reporter import Reporter
from sft_keras.data.examples import SPLITS
from sft_keras.data.prepared import Prepared

# Share of the validation or test split that may be leaked, or of all examples that may have
# conflicting labels, before results are not reliable.
_MAX_SHARE = 0.01
# Minimum cosine similarity of proposed pairs. It is low because the comparison of contents then
# tells near-duplicates from different examples of the same kind.
_MIN_SIMILARITY = 0.7


def duplicate_findings(view: DatasetView, drops_duplicates: bool) -> list[Finding]:
    """Return findings about examples with identical model inputs.

    Args:
      view: All examples.
      drops_duplicates: Whether a run of the recipe drops all but one by itself.
    """
    findings = _findings(
        view,
        duplicate_groups(view.digests),
        ("same across splits", "same within a split", "same with different labels"),
        "exactly the same",
        view.label,
    )
    if not drops_duplicates:
        return findings
    dropped = " A run of this recipe drops the duplicates (task.clean.duplicates)."
    # Duplicates with different labels remain: a run keeps one example per label and split.
    return [
        finding
        if "labels" in finding.kind
        else dataclasses.replace(finding, spoils=False, what=finding.what + dropped)
        for finding in findings
    ]


def near_duplicate_findings(
    features: np.ndarray,
    prepared: Mapping[str, Prepared],
    view: DatasetView,
    reporter: Reporter,
) -> list[Finding]:
    """Return findings about examples with similar features and similar contents.

    Args:
      features: Pooled backbone features, float [n, d].
      prepared: The splits.
      view: All examples.
      reporter: Receives progress.
    """
    group_of = {
        index: number
        for number, members in enumerate(duplicate_groups(view.digests))
        for index in members
    }
    is_similar = content_comparison(prepared)

    def confirms(first: int, second: int) -> bool:
        if first in group_of and group_of[first] == group_of.get(second):
            return False  # already reported as exact duplicates
        return is_similar(first, second)

    pairs = near_pairs(
        features,
        _MIN_SIMILARITY,
        confirms,
        lambda done, total: reporter.progress(f"near-duplicates {done}/{total}"),
    )
    similarity: dict[int, float] = {}
    for pair in pairs:
        for index in (pair.first, pair.second):
            similarity[index] = max(similarity.get(index, -1.0), pair.similarity)
    return _findings(
        view,
        near_groups(pairs, len(features)),
        (
            "nearly the same across splits",
            "nearly the same within a split",
            "nearly the same with different labels",
        ),
        "nearly the same",
        lambda index: f"{view.label(index)} {similarity[index]:.3f}".strip(),
    )


@dataclasses.dataclass(frozen=True)
class _Spread:
    """Groups of duplicates by how they are spread over the data.

    Attributes:
      across: Groups in several splits.
      within: Groups in one split.
      conflicting: Groups with different labels, in any splits.
      leaked_share: Share of the examples of the validation or test split, whichever is larger,
        that are duplicated in another split.
      conflicting_examples: Number of examples in conflicting groups.
    """

    across: list[Sequence[int]]
    within: list[Sequence[int]]
    conflicting: list[Sequence[int]]
    leaked_share: float
    conflicting_examples: int

    @classmethod
    def measure(cls, view: DatasetView, groups: Sequence[Sequence[int]]) -> _Spread:
        """Return the spread of groups of duplicates."""
        across: list[Sequence[int]] = []
        within: list[Sequence[int]] = []
        conflicting: list[Sequence[int]] = []
        leaked: dict[str, int] = dict.fromkeys(SPLITS, 0)
        for members in groups:
            splits = {view.ids[index][0] for index in members}
            labels = {view.labels[index] for index in members}
            if view.has_classes and len(labels) > 1:
                conflicting.append(members)
            elif len(splits) > 1:
                across.append(members)
            else:
                within.append(members)
            if len(splits) > 1:
                for index in members:
                    leaked[view.ids[index][0]] += 1
        return cls(
            across,
            within,
            conflicting,
            max(leaked[name] / max(view.sizes[name], 1) for name in ("validation", "test")),
            sum(map(len, conflicting)),
        )


def _findings(
    view: DatasetView,
    groups: Sequence[Sequence[int]],
    kinds: tuple[str, str, str],
    degree: str,
    note: Callable[[int], str],
) -> list[Finding]:
    """Return a finding for each way in which groups of duplicates are spread over the data.

    Args:
      view: All examples.
      groups: Groups of duplicates.
      kinds: Names of the findings: across splits, within a split, with different labels.
      degree: How similar the examples are, in words.
      note: Returns the note on an example.
    """
    spread = _Spread.measure(view, groups)

    def examples(groups: Sequence[Sequence[int]]) -> tuple[tuple[Example, ...], ...]:
        return tuple(view.group(members, note) for members in groups)

    findings = [
        Finding(
            kinds[0],
            f"Examples in different splits are {degree}, so the score partly measures "
            f"memorization (up to {spread.leaked_share:.1%} of a split is affected). Exclude all "
            "but one of each group.",
            examples(spread.across),
            spoils=spread.leaked_share > _MAX_SHARE,
            keeps_first=True,
        ),
        Finding(
            kinds[2],
            f"Examples are {degree} and have different labels: at most one label per group is "
            "correct.",
            examples(spread.conflicting),
            spoils=spread.conflicting_examples > _MAX_SHARE * sum(view.sizes.values()),
        ),
        Finding(
            kinds[1],
            f"Examples of one split are {degree}, so they count several times.",
            examples(spread.within),
            keeps_first=True,
        ),
    ]
    return [finding for finding in findings if finding.groups]
