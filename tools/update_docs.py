"""Generate the tables of README.md and docs/ from the files in results/.

    python tools/update_docs.py            rewrite the tables
    python tools/update_docs.py --check    exit with 1 if a table is out of date

The table for results/NAME.json is placed between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import doc_tables as tables

ROOT = Path(__file__).parent.parent


PAGES = {
    "README.md": (tables.quickstart, tables.staged, tables.texts, tables.text_tasks),
    "docs/measured.md": (
        tables.mobilenet_flowers,
        tables.views,
        tables.disk_memory,
        tables.text_lengths,
    ),
    "docs/reliability.md": (tables.kills, tables.fuzz, tables.planted),
    "docs/scale.md": (tables.tpu_programs, tables.scaling),
    "docs/exports.md": (tables.exports,),
    "docs/serving.md": (tables.serving_load,),
}


def main() -> None:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a table is out of date"
    )
    only_check = parser.parse_args().check
    for name, renderers in PAGES.items():
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = _updated(name, before, renderers)
        if only_check and after != before:
            sys.exit(f"{name} does not match results/; run python tools/update_docs.py")
        page.write_text(after, encoding="utf-8")


def _updated(page: str, text: str, renderers: Sequence[Callable[[dict[str, Any]], str]]) -> str:
    for render in renderers:
        name = render.__name__
        file = ROOT / "results" / f"{name}.json"
        if not file.exists():
            continue  # the benchmark has not been run
        results = json.loads(file.read_text(encoding="utf-8"))
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"{page} must contain {start.strip()} and {end} exactly once.")
        above, rest = text.split(start)
        text = f"{above}{start}{render(results)}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    main()
