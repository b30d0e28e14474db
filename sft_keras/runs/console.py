"""What of a run is printed, and how. Standard library only."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Literal

Log = Literal["plain", "quiet", "json"]
"""All lines; only what a person must know at the end; or a JSON object a line, for programs."""

_KEPT = ("warning", "note", "test", "report")  # how lines begin that are printed when quiet


@dataclasses.dataclass
class _Shown:
    """The passing line below a cell of a notebook, where each is a message over the network."""

    length: int = 0
    until: float = 0.0  # at least, as `time.monotonic` has it


_shown = _Shown()
_NOTEBOOK_SECONDS = 0.2


def print_line(line: str, log: Log) -> None:
    """Prints what a run says."""
    if log == "json":
        _print_json({"said": line})
    elif log == "plain" or line.startswith(_KEPT):
        print(f"{_wiped()}{line}", flush=True)


def print_passing(line: str, log: Log) -> None:
    """Shows a line on a terminal or in a notebook until the next one; elsewhere it is left out."""
    if log != "plain":
        return
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"{_wiped()}{line[:width]}", end="", flush=True)
    elif _is_notebook() and time.monotonic() > _shown.until:
        print(f"{_wiped()}{line}", end="", flush=True)
        _shown.length, _shown.until = len(line), time.monotonic() + _NOTEBOOK_SECONDS


def print_figures(stage: str, step: int, figures: Mapping[str, float], log: Log) -> None:
    """Prints the figures of an epoch for programs; for people a line says them."""
    if log == "json":
        _print_json({"stage": stage, "step": step, **figures})


def _wiped() -> str:
    """Returns what takes the passing line away that may still be shown."""
    if sys.stdout.isatty():
        return "\r\x1b[K"
    blanks, _shown.length = " " * _shown.length, 0
    return f"\r{blanks}\r" if blanks and _is_notebook() else ""


def _is_notebook() -> bool:
    """Whether it is printed below a cell, where a line can be begun anew, and no more."""
    return type(sys.stdout).__module__ == "ipykernel.iostream"


def _print_json(values: Mapping[str, object]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": now, **values}, ensure_ascii=False), flush=True)
