"""Parts of a page, for notebooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fragment:
    """A part of a page.

    Attributes:
      html: It needs nothing but itself; what came from data is escaped in it.
    """

    html: str = dataclasses.field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def score_fragment(report: Mapping[str, Any], metrics: Mapping[str, Any], run_dir: str) -> Fragment:
    """Return the score of a run with its interval, and the result of each stage."""
    return render_fragment("score", report=report, test=metrics, folder=run_dir)


def render_fragment(part: str, **values: Any) -> Fragment:
    """Returns a part of the template, with the style that all of them share."""
    from sft_keras.report.templates import page_template

    parts = page_template("notebook.html.j2").module
    return Fragment(str(parts.framing(getattr(parts, part)(**values))))
