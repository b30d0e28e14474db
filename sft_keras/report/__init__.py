"""The report of a run: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

from sft_keras.report.writer import write_report

__all__ = ["write_report"]
