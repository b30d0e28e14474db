"""What a notebook shows of a run. Does not import TensorFlow.

`begin` is for the first cell. The others return a `Fragment` each, which a notebook shows where it
is the last line of a cell; but for `ask`, which shows what it makes.
"""

from __future__ import annotations

from sft_keras.notebook.fragments import (
    curves,
    mistakes,
    pictures,
    predictions,
    report,
    score,
    table,
)
from sft_keras.notebook.setup import begin
from sft_keras.notebook.widget import ask
from sft_keras.report.fragments import Fragment

__all__ = [
    "Fragment",
    "ask",
    "begin",
    "curves",
    "mistakes",
    "pictures",
    "predictions",
    "report",
    "score",
    "table",
]
