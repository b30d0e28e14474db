"""Displays a run in a notebook. Does not import TensorFlow.

Call `begin` in the first cell. The other functions return a `Fragment`, which a notebook displays
if it is the last expression of a cell, except `ask`, which displays a widget.

Example:

    from sft_keras import notebook

    notebook.begin()
    result = sft_keras.finetune("quickstart")
    notebook.curves(result)
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
