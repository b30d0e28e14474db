"""Makes the tables of README.md and of docs/ from the files under results/.

    python tools/update_docs.py            rewrites the tables
    python tools/update_docs.py --check    exits with 1 if they differ from the files

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is that of its file.
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
    """Rewrites the pages, or compares them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 on a difference"
    )
    only_check = parser.parse_args().check
    for name, makers in PAGES.items():
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = _rewritten(name, before, makers)
        if only_check and after != before:
            sys.exit(f"{name} differs from results/; run tools/update_docs.py")
        page.write_text(after, encoding="utf-8")


def _rewritten(page: str, text: str, makers: Sequence[Callable[[dict[str, Any]], str]]) -> str:
    for make in makers:
        name = make.__name__
        file = ROOT / "results" / f"{name}.json"
        if not file.exists():
            continue  # its benchmark has not been run
        results = json.loads(file.read_text(encoding="utf-8"))
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"{page} must hold {start.strip()} and {end} once each.")
        above, rest = text.split(start)
        text = f"{above}{start}{make(results)}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    main()
