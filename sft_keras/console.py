"""What of a run is printed, and how. Standard library only."""

from __future__ import annotations

import datetime
import json
import shutil
import sys
from collections.abc import Mapping
from typing import Literal

Log = Literal["plain", "quiet", "json"]
"""All lines; only what a person must know at the end; or a JSON object a line, for programs."""

_KEPT = ("warning", "note", "test", "report")  # how lines begin that are printed when quiet


def print_line(line: str, log: Log) -> None:
    """Prints what a run says."""
    if log == "json":
        _print_json({"said": line})
    elif log == "plain" or line.startswith(_KEPT):
        # A terminal may still show the start of a passing line; wipe it.
        print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, flush=True)


def print_passing(line: str, log: Log) -> None:
    """Shows a line on a terminal until the next one; elsewhere it is left out."""
    if log == "plain" and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{line[:width]}", end="", flush=True)


def print_figures(stage: str, step: int, figures: Mapping[str, float], log: Log) -> None:
    """Prints the figures of an epoch for programs; for people a line says them."""
    if log == "json":
        _print_json({"stage": stage, "step": step, **figures})


def _print_json(values: Mapping[str, object]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": now, **values}, ensure_ascii=False), flush=True)
