"""Adds to the report of a run that has ended."""

from __future__ import annotations

import base64
import html.parser
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_keras.errors import RunFolderError
from sft_keras.report.writer import write_report

_URI = "data:image/png;base64,"


def add_to_report(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    """Writes a run's report again with `value` under `name`; all else stays as it is.

    The pictures of mistakes are those that the page holds.

    Args:
      folder: The run folder, with report.json and report.html.
      name: Of the part, which the page has a section for.
      value: Plain values.

    Raises:
      RunFolderError: If the report is not as the run wrote it.
    """
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        pictures = _pictures_of((folder / "report.html").read_text(encoding="utf-8"))
        mistakes = report["mistakes"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise RunFolderError(
            f"The report in {str(folder)!r} must be as the run wrote it, report.json and "
            f"report.html. It cannot be read: {error}. Copy both anew from where it ran."
        ) from error
    if pictures and len(pictures) != len(mistakes):
        raise RunFolderError(
            f"{folder / 'report.html'} must have a picture for each of {len(mistakes)} mistakes in "
            f"report.json. Received: {len(pictures)}. Copy both anew from where it ran."
        )
    write_report({**report, name: value}, {"mistakes": pictures} if pictures else {}, folder)


class _Pictures(html.parser.HTMLParser):
    """Collects the pictures of a page, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[bytes] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        source = dict(attrs).get("src") or ""
        if tag == "img" and source.startswith(_URI):
            self.found.append(base64.b64decode(source.removeprefix(_URI), validate=True))


def _pictures_of(page: str) -> list[bytes]:
    parser = _Pictures()
    parser.feed(page)
    return parser.found
