"""Console output of a run: lines, progress and epochs. Standard library only."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Literal

from typing_extensions import override

from sft_keras.core.output import printable
from sft_keras.core.reporter import Reporter

Log = Literal["plain", "quiet", "json"]
"""All lines; only warnings, notes and results; or one JSON object per line, for programs."""

# Lines that "quiet" prints too.
_QUIET_PREFIXES = ("warning", "note", "data  dropped", "test", "report")
_NOTEBOOK_SECONDS = 0.2  # between two updates: each is a message over the network


@dataclasses.dataclass
class _ProgressLine:
    """The progress line below a notebook cell.

    Attributes:
      length: Its characters, which the next line must overwrite.
      next_update: The earliest time of the next update, as `time.monotonic` returns it.
    """

    length: int = 0
    next_update: float = 0.0


_progress_line = _ProgressLine()


def print_line(line: str, log: Log) -> None:
    """Print a log line."""
    if log == "json":
        _print_json({"said": line})
    elif log == "plain" or line.startswith(_QUIET_PREFIXES):
        print(f"{_erase_progress()}{printable(line)}", flush=True)


def print_progress(line: str, log: Log) -> None:
    """Show a line until the next one, on a terminal or in a notebook; elsewhere print nothing."""
    if log != "plain":
        return
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"{_erase_progress()}{printable(line)[:width]}", end="", flush=True)
    elif _is_notebook() and time.monotonic() > _progress_line.next_update:
        print(f"{_erase_progress()}{line}", end="", flush=True)
        _progress_line.length = len(line)
        _progress_line.next_update = time.monotonic() + _NOTEBOOK_SECONDS


def print_epoch(stage: str, step: int, metrics: Mapping[str, float], log: Log) -> None:
    """Print the metrics of an epoch as JSON; a plain log has a line of its own for them."""
    if log == "json":
        _print_json({"stage": stage, "step": step, **metrics})


@contextlib.contextmanager
def relay_warnings(reporter: Reporter) -> Iterator[None]:
    """Pass the warnings of this package within the block to a run's log, each once.

    Args:
      reporter: Receives them as lines "warning  ...".
    """
    logger = logging.getLogger("sft_keras")
    others, level, propagates = logger.handlers, logger.level, logger.propagate
    logger.handlers = [_LineHandler(reporter)]
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # or the handlers of the root logger print them a second time
    try:
        yield
    finally:
        logger.handlers, logger.propagate = others, propagates
        logger.setLevel(level)


class _LineHandler(logging.Handler):
    """Passes each message to a reporter once."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter
        self._seen: set[str] = set()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._seen:
            self._seen.add(message)
            self._reporter.line(f"warning  {message}")


def _erase_progress() -> str:
    """Return the characters that erase a progress line, if one may be visible."""
    if sys.stdout.isatty():
        return "\r\x1b[K"
    blanks, _progress_line.length = " " * _progress_line.length, 0
    return f"\r{blanks}\r" if blanks and _is_notebook() else ""


def _is_notebook() -> bool:
    """Return whether output appears below a cell, which supports "\\r" but no escape codes."""
    return type(sys.stdout).__module__ == "ipykernel.iostream"


def _print_json(values: Mapping[str, object]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, **values}, ensure_ascii=False)
    print(printable(line), flush=True)
