"""What a check found, as a table of text. Standard library only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from sft_keras.check.findings import Checked, Finding

_SHOWN_GROUPS = 5
_SHOWN_CLASSES = 20
_WIDTH = 100


def table(checked: Checked) -> Iterator[str]:
    """Yields the lines to print."""
    yield from _counts(checked)
    yield ""
    if not checked.findings:
        yield "Nothing was found."
    for finding in checked.findings:
        yield from _finding(finding)
    for sentence in checked.skipped:
        yield from textwrap.wrap(f"Not looked for: {sentence}", _WIDTH, subsequent_indent="  ")


def _counts(checked: Checked) -> Iterator[str]:
    """Yields how many examples of each class each split has."""
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
    mark = "FAULT" if finding.spoils else "look"
    number = f" ({finding.count})" if finding.count else ""
    yield f"{mark:5}  {finding.kind}{number}"
    yield from textwrap.wrap(
        finding.what, _WIDTH, initial_indent="       ", subsequent_indent="       "
    )
    for group in finding.groups[:_SHOWN_GROUPS]:
        shown = "; ".join(
            f"{each.id} ({', '.join(filter(None, (each.split, each.note)))})" for each in group[:6]
        )
        more = f"; and {len(group) - 6} more" if len(group) > 6 else ""
        yield f"       - {shown}{more}"
    if len(finding.groups) > _SHOWN_GROUPS:
        yield f"       ... and {len(finding.groups) - _SHOWN_GROUPS} more"
