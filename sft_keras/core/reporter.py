"""Progress reporting: the interface through which long operations say how far they are.

Library code calls a `Reporter`; the command or the run folder that starts the work implements it.
Standard library only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

from sft_keras.core.output import printable


class Reporter(Protocol):
    """Receives log lines, transient progress and epoch metrics.

    `sft_keras.runs.folder.RunFolder` prints and logs them; `SILENT` drops them; a
    `CallbackReporter` passes them to functions.
    """

    def line(self, text: str) -> None:
        """Print and log a line."""

    def progress(self, text: str) -> None:
        """Show transient progress, which the next line or progress text replaces."""

    def epoch(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of a finished epoch.

        Args:
          stage: The stage's name.
          step: Batches trained on so far, over all stages of the run.
          metrics: {name: value}; names of validation metrics begin with "val_".
        """


def _print(text: str) -> None:
    print(printable(text), flush=True)


def _ignore(*values: object) -> None:
    """Drop the values."""


@dataclasses.dataclass(frozen=True)
class CallbackReporter:
    """A `Reporter` that passes what it receives to functions.

    By default it prints lines and drops the rest.

    Attributes:
      on_line: Called with each log line.
      on_progress: Called with each progress text.
      on_epoch: Called with (stage, step, metrics), see `Reporter.epoch`.

    Example:
      >>> lines = []
      >>> CallbackReporter(lines.append).line("data  12 examples")
      >>> lines
      ['data  12 examples']
    """

    on_line: Callable[[str], None] = _print
    on_progress: Callable[[str], None] = _ignore
    on_epoch: Callable[[str, int, Mapping[str, float]], None] = _ignore

    def line(self, text: str) -> None:
        """Pass a log line to `on_line`."""
        self.on_line(text)

    def progress(self, text: str) -> None:
        """Pass a progress text to `on_progress`."""
        self.on_progress(text)

    def epoch(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the metrics of an epoch to `on_epoch`."""
        self.on_epoch(stage, step, metrics)


CONSOLE: Reporter = CallbackReporter()
"""Prints lines and drops transient progress."""
SILENT: Reporter = CallbackReporter(on_line=_ignore)
"""Drops everything."""
