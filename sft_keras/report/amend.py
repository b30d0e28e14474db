"""Adds a section to the report of a finished run."""

from __future__ import annotations

import base64
import html.parser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_keras.core.errors import RunFolderError
from sft_keras.core.files import read_json, reading_run_file
from sft_keras.report.writer import write_report

_DATA_URI = "data:image/png;base64,"


def add_to_report(folder: Path, name: str, value: Mapping[str, Any]) -> None:
    """Rewrite the report of a run with `value` under `name`; keep everything else.

    report.json holds no images, so they are read back from report.html.

    Args:
      folder: The run folder, with report.json and report.html.
      name: The key of the section, which the page must have a template for.
      value: Plain values.

    Raises:
      RunFolderError: report.json and report.html do not match.
    """
    report = read_json(folder / "report.json")
    page = folder / "report.html"
    with reading_run_file(page):
        images = _embedded_images(page.read_text(encoding="utf-8"))
    with reading_run_file(folder / "report.json"):
        examples = [*report["mistakes"], *report["uncertain"]]
        expected = {example["picture"] for example in examples if "picture" in example}
    if sorted(images) != sorted(expected):
        raise RunFolderError(
            f"{page} must contain the {len(expected)} images that report.json refers to. "
            f"Received: {len(images)}. Copy both files again from the original run folder."
        )
    write_report({**report, name: value}, [images[number] for number in sorted(images)], folder)


class _ImageParser(html.parser.HTMLParser):
    """Collects the numbered images of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[int, bytes] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Decode an `<img>` that has a number and an embedded PNG file."""
        attributes = dict(attrs)
        source, number = attributes.get("src") or "", attributes.get("data-picture")
        if tag == "img" and number is not None and source.startswith(_DATA_URI):
            png = base64.b64decode(source.removeprefix(_DATA_URI), validate=True)
            self.images[int(number)] = png


def _embedded_images(page: str) -> dict[int, bytes]:
    parser = _ImageParser()
    parser.feed(page)
    return parser.images
