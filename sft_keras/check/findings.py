"""The findings of a data check, as plain values. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Example:
    """One example of a finding.

    Attributes:
      split: "train", "validation" or "test".
      id: The example's id, see `Examples.ids`.
      note: A remark about the example, such as its label.
    """

    split: str
    id: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of fault and the examples that have it.

    Attributes:
      kind: Stable name of the fault, such as "same across splits".
      what: What is wrong and what to do about it, in a sentence or two.
      groups: The affected examples; those that belong together form a group.
      spoils: Whether the fault invalidates results, rather than only making them worse.
      keeps_first: Whether the first example of each group may stay; the exclude list then proposes
        only the others.
    """

    kind: str
    what: str
    groups: tuple[tuple[Example, ...], ...] = ()
    spoils: bool = False
    keeps_first: bool = False

    @property
    def count(self) -> int:
        """Number of affected examples."""
        return sum(map(len, self.groups))

    def describe(self) -> str:
        """Return the finding as one line."""
        if not self.count:
            return self.what
        return f"{self.kind.capitalize()}: {self.count} examples. {self.what}"

    def exclusion_candidates(self) -> list[Example]:
        """Return the examples that the exclude list proposes."""
        start = 1 if self.keeps_first else 0
        return [example for group in self.groups for example in group[start:]]


@dataclasses.dataclass(frozen=True)
class Checked:
    """The outcome of a data check.

    Attributes:
      about: Facts about the data: "source", "class_names", "counts" per split, "sizes", and
        "notes", sentences on what was dropped, truncated or changed.
      findings: The faults, those that invalidate results first.
      skipped: One sentence per check that was not possible, with the reason.

    Example:
      >>> finding = Finding("small classes", "'b' has 3 training examples.")
      >>> Checked({"source": "folder:data"}, [finding]).spoils
      False
    """

    about: Mapping[str, Any]
    findings: Sequence[Finding]
    skipped: Sequence[str] = ()

    @property
    def spoils(self) -> bool:
        """Whether a run on this data would fail or give invalid results."""
        return any(finding.spoils for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON-serializable values, the content of check.json."""
        return {
            "format": 1,
            "about": dict(self.about),
            "spoils": self.spoils,
            "findings": [
                {**dataclasses.asdict(finding), "count": finding.count} for finding in self.findings
            ],
            "skipped": list(self.skipped),
        }

    def exclude_lists(self) -> dict[str, str]:
        """Return the files for `--exclude`, to be reviewed before use: {file name: content}.

        One per finding: who removes unreadable files need not remove difficult test examples too.
        """
        return {
            f"{finding.kind.replace(' ', '-')}.txt": _exclude_list(finding)
            for finding in self.findings
            if finding.exclusion_candidates()
        }


def _exclude_list(finding: Finding) -> str:
    candidates = finding.exclusion_candidates()
    lines = [
        f"# {finding.kind}: {len(candidates)} examples found by the data check, one id per line.",
        "# Delete the lines of examples to keep, then run with --exclude=THIS_FILE.",
    ]
    evaluated = sum(example.split != "train" for example in candidates)
    if evaluated and finding.kind != "unreadable":
        lines += [
            f"# {evaluated} of them are validation or test examples. Without them the score is "
            "measured on",
            "# other examples, and is higher if these are difficult: compare it only with runs "
            "that exclude",
            "# the same ones, and rather fix wrong labels.",
        ]
    return "\n".join([*lines, "", *dict.fromkeys(example.id for example in candidates)]) + "\n"
