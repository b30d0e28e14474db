"""HTML fragments of the report, for notebooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fragment:
    """A self-contained piece of HTML that a notebook displays.

    Attributes:
      html: The HTML, with its style sheet. Everything that comes from data is escaped.
    """

    html: str = dataclasses.field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def score_fragment(report: Mapping[str, Any], metrics: Mapping[str, Any], run_dir: str) -> Fragment:
    """Return the score of a run with its confidence interval, and the result of each stage."""
    return render_fragment("score", report=report, test=metrics, folder=run_dir)


def render_fragment(macro: str, **values: Any) -> Fragment:
    """Render one macro of notebook.html.j2, together with the style sheet they all share."""
    from sft_keras.report.templates import page_template

    macros = page_template("notebook.html.j2").module
    return Fragment(str(macros.framing(getattr(macros, macro)(**values))))  # type: ignore[attr-defined]
