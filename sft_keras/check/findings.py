"""What a check of the data found, as plain values. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Example:
    """One example of a finding.

    Attributes:
      split: "train", "validation" or "test".
      id: What it is called, see `Examples.ids`.
      note: What there is to say of it, such as its label.
    """

    split: str
    id: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
      kind: Its name, the same in every check: "same across splits".
      what: What is wrong with it and what to do, a sentence or two.
      groups: The examples, those that belong together in one group.
      spoils: Whether a result would be wrong by it, and not only worse.
      keeps_first: Whether of each group the first may stay; the exclude list proposes the others.
    """

    kind: str
    what: str
    groups: tuple[tuple[Example, ...], ...] = ()
    spoils: bool = False
    keeps_first: bool = False

    @property
    def count(self) -> int:
        """Examples in it."""
        return sum(map(len, self.groups))

    def describe(self) -> str:
        """Returns the finding in a line."""
        if not self.count:
            return self.what
        return f"{self.kind.capitalize()}: {self.count} examples. {self.what}"

    def proposed(self) -> list[Example]:
        """Returns the examples that a person may want to leave out."""
        return [each for group in self.groups for each in group[1 if self.keeps_first else 0 :]]


@dataclasses.dataclass(frozen=True)
class Checked:
    """All that a check found.

    Attributes:
      about: What was checked: "source", "class_names", "counts" per split, "sizes".
      findings: The faults, those that spoil a result first.
      skipped: What could not be looked for, and why, a sentence each.
    """

    about: Mapping[str, Any]
    findings: Sequence[Finding]
    skipped: Sequence[str] = ()

    @property
    def spoils(self) -> bool:
        """Whether a run on this data would give a wrong result, or none."""
        return any(finding.spoils for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as plain values."""
        return {
            "format": 1,
            "about": dict(self.about),
            "spoils": self.spoils,
            "findings": [
                {**dataclasses.asdict(finding), "count": finding.count} for finding in self.findings
            ],
            "skipped": list(self.skipped),
        }

    def exclude_list(self) -> str:
        """Returns a file for `--exclude`, which a person should read before using it."""
        lines = [
            "# Examples that a check of the data found suspicious, one a line.",
            "# Delete the lines of those to keep; then run with --exclude=THIS_FILE.",
        ]
        seen: set[str] = set()
        for finding in self.findings:
            proposed = [each for each in finding.proposed() if each.id not in seen]
            if proposed:
                lines += ["", f"# {finding.kind}: {len(proposed)}"]
            for each in proposed:
                seen.add(each.id)
                lines.append(each.id)
        return "\n".join(lines) + "\n"
