"""The reliability diagram: how often predictions are right that are this sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from sft_keras.report.plots import LINE, SOFT, STYLE, TRAIN, VALIDATION, Plot, as_svg

_SMALLEST, _LARGEST = 12.0, 160.0  # areas of dots


def reliability_plot(found: Mapping[str, Any]) -> Plot:
    """Returns the share of right answers over the probability given, before and after.

    Args:
      found: What `calibration` says of the test split, and of before the temperature in "before".
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.grid()
        axes.set_axisbelow(True)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for bins, colour in ((found["before"]["bins"], TRAIN), (found["bins"], VALIDATION)):
            total = sum(each["count"] for each in bins)
            x, y = ([each[name] for each in bins] for name in ("confidence", "accuracy"))
            axes.plot(x, y, color=colour, linewidth=1.8)
            axes.scatter(
                x,
                y,
                [_SMALLEST + _LARGEST * each["count"] / total for each in bins],
                color=colour,
                edgecolors=LINE,
                zorder=3,
            )
        # A little beyond, so that dots in the corners are whole.
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xlabel="probability given", ylabel="share that is right")
        said = "Share of right predictions over the probability given, before and after"
        return Plot("Reliability", as_svg(figure, "reliability", said))
