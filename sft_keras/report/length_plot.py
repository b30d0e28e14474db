"""The plot of how long the texts of each split are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from sft_keras.report.plots import SOFT, STYLE, TRAIN, VALIDATION, Plot, as_svg


def length_plot(inputs: Mapping[str, Mapping[str, Any]]) -> Plot | None:
    """Returns the histogram of training texts by length, and where they are cut off.

    Args:
      inputs: By split, what preparing found; of texts `lengths`, {"width": of a bin in tokens,
        "counts": of each}, and `sequence_length`; `windows`, where they are not cut off there.

    Returns:
      The plot; None where inputs are no texts.
    """
    facts = inputs.get("train") or {}
    if "lengths" not in facts:
        return None
    width, counts = facts["lengths"]["width"], facts["lengths"]["counts"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        edges = [width * number for number in range(len(counts))]
        axes.bar(edges, counts, width=0.9 * width, align="edge", color=TRAIN, alpha=0.8)
        limit = facts["sequence_length"]
        if limit <= edges[-1] + width:
            axes.axvline(limit, color=VALIDATION, linewidth=1.8)
            axes.annotate(
                "several windows" if "windows" in facts else "cut off here",
                (limit, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(4, -10),
                textcoords="offset points",
                color=SOFT,
            )
        axes.set(xlabel="tokens", ylabel="training texts")
        return Plot("Length", as_svg(figure, "lengths", "Training texts by their length in tokens"))
