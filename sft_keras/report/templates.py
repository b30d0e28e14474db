"""Loads the Jinja templates of this folder, with the filters that format values."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sft_keras.report.format import FILTERS, counted

_OPEN_ROWS = 25  # longer tables show this many rows and collapse the rest


def page_template(name: str) -> Template:
    """Return an HTML template, with autoescaping and the filters of `format`."""
    return _template(name, is_html=True)


def markdown_template(name: str) -> Template:
    """Return a Markdown template, with the filters of `format` plus `yaml` and `code`."""
    return _template(name, is_html=False)


def as_yaml(value: Any) -> str:
    """Return a value as YAML on one line. JSON is a subset of YAML."""
    return json.dumps(value, ensure_ascii=False)


def as_code(text: str) -> str:
    """Return text as a Markdown code span that is shown literally, backticks included."""
    text, fence = " ".join(text.split()), "`"
    while fence in text:
        fence += "`"
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _template(name: str, is_html: bool) -> Template:
    environment = Environment(
        loader=PackageLoader("sft_keras.report", "."),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {**FILTERS, "yaml": as_yaml, "code": as_code}
    environment.globals |= {"counted": counted, "open_rows": _OPEN_ROWS}
    return environment.get_template(name)
