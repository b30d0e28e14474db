"""The templates of this folder, with what figures are written by."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sft_keras.report.format import FILTERS, counted

_OPEN_ROWS = 25  # longer tables show so many and fold the rest


def page_template(name: str) -> Template:
    """Returns a template of HTML, with escaping on and the filters of `formats`."""
    return _template(name, is_html=True)


def markdown_template(name: str) -> Template:
    """Returns a template of Markdown, with the filters of `formats`, and `yaml` and `code`."""
    return _template(name, is_html=False)


def as_yaml(value: Any) -> str:
    """Returns a value as YAML, of which JSON is a part."""
    return json.dumps(value, ensure_ascii=False)


def as_code(text: str) -> str:
    """Returns text as Markdown shows it letter by letter, whatever is in it."""
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
