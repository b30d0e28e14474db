"""The findings of a data check as console text. Standard library only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from sft_keras.check.findings import Checked, Finding

_SHOWN_GROUPS = 5
_SHOWN_IN_GROUP = 6
_SHOWN_CLASSES = 20
_WIDTH = 100


def table(checked: Checked) -> Iterator[str]:
    """Yield the lines to print."""
    yield from _counts(checked)
    yield ""
    if not checked.findings:
        yield "No problems found."
    for finding in checked.findings:
        yield from _finding(finding)
    for sentence in checked.skipped:
        yield from textwrap.wrap(f"Skipped: {sentence}", _WIDTH, subsequent_indent="  ")


def _counts(checked: Checked) -> Iterator[str]:
    """Yield the number of examples per class and split."""
    counts = checked.about["counts"]
    names = checked.about["class_names"]
    splits = list(checked.about["sizes"])
    width = max([5, *(len(name) for name in names[:_SHOWN_CLASSES])])
    yield f"{'':{width}}  " + "  ".join(f"{split:>10}" for split in splits)
    for number, name in enumerate(names[:_SHOWN_CLASSES]):
        yield f"{name:{width}}  " + "  ".join(f"{counts[s][number]:>10,}" for s in splits)
    if len(names) > _SHOWN_CLASSES:
        yield f"... and {len(names) - _SHOWN_CLASSES} more classes"
    sizes = checked.about["sizes"]
    yield f"{'all':{width}}  " + "  ".join(f"{sizes[split]:>10,}" for split in splits)


def _finding(finding: Finding) -> Iterator[str]:
    severity = "FAULT" if finding.spoils else "look"
    number = f" ({finding.count})" if finding.count else ""
    yield f"{severity:5}  {finding.kind}{number}"
    yield from textwrap.wrap(
        finding.what, _WIDTH, initial_indent="       ", subsequent_indent="       "
    )
    for group in finding.groups[:_SHOWN_GROUPS]:
        shown = "; ".join(
            f"{example.id} ({', '.join(filter(None, (example.split, example.note)))})"
            for example in group[:_SHOWN_IN_GROUP]
        )
        hidden = len(group) - _SHOWN_IN_GROUP
        yield f"       - {shown}{f'; and {hidden} more' if hidden > 0 else ''}"
    if len(finding.groups) > _SHOWN_GROUPS:
        yield f"       ... and {len(finding.groups) - _SHOWN_GROUPS} more"
