"""Adds to the report of a run that has ended."""

from __future__ import annotations

import base64
import html.parser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError
from sft_keras.core.files import read_json, reading_run_file
from sft_keras.report.writer import write_report

_URI = "data:image/png;base64,"


def add_to_report(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    """Writes a run's report again with `value` under `name`; all else stays as it is.

    The pictures are those that the page holds.

    Args:
      folder: The run folder, with report.json and report.html.
      name: Of the part, which the page has a section for.
      value: Plain values.

    Raises:
      RunFolderError: If the report is not as the run wrote it.
    """
    report = read_json(folder / "report.json")
    page = folder / "report.html"
    with reading_run_file(page):
        pictures = _pictures_of(page.read_text(encoding="utf-8"))
    with reading_run_file(folder / "report.json"):
        examples = [*report["mistakes"], *report["uncertain"]]
        wanted = {each["picture"] for each in examples if "picture" in each}
    if sorted(pictures) != sorted(wanted):
        raise RunFolderError(
            f"{page} must have the {len(wanted)} pictures that report.json "
            f"names. Received: {len(pictures)}. Copy both anew from where it ran."
        )
    write_report({**report, name: value}, [pictures[each] for each in sorted(pictures)], folder)


class _Pictures(html.parser.HTMLParser):
    """Collects the pictures of a page by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, bytes] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        given = dict(attrs)
        source, number = given.get("src") or "", given.get("data-picture")
        if tag == "img" and number is not None and source.startswith(_URI):
            file = base64.b64decode(source.removeprefix(_URI), validate=True)
            self.found[int(number)] = file


def _pictures_of(page: str) -> dict[int, bytes]:
    parser = _Pictures()
    parser.feed(page)
    return parser.found
