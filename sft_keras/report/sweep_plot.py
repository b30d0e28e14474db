"""Plots of trials: the score over a field's value, or one row per trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from sft_keras.report.svg import (
    SOFT,
    STYLE,
    TEST,
    VALIDATION,
    Plot,
    as_svg,
    draw_ring,
    short_label,
)

# {split: (colour, marker, size)}. Test is drawn over validation, which must stay visible around it.
_DOTS = {"validation": (VALIDATION, "o", 7.5), "test": (TEST, "D", 4.0)}
_WIDTH = 5.2  # inches; the text stays legible at the width of a phone
_MAX_LINEAR_RATIO = 20.0  # largest value over smallest; above it the axis is logarithmic
_MAX_TICKS = 8
_LABEL_LENGTH = 30  # characters


@dataclass(frozen=True)
class Scored:
    """The scores of one point, trial or run to plot.

    Attributes:
      label: The name beside its row.
      scores: {split: {"mean", "low", "high"}}; empty if it failed.
      is_best: Whether to mark it with a ring.
    """

    label: str
    scores: Mapping[str, Mapping[str, float]]
    is_best: bool = False


def score_over_value(
    field: str,
    metric: str,
    values: Sequence[float],
    points: Sequence[Scored],
    is_share: bool = True,
) -> Plot:
    """Plot the validation score over a field's value. Failed trials are crosses on the axis.

    Args:
      field: The field's path, which labels the axis.
      metric: The name of the score.
      values: The value of the field at each of `points`.
      points: The scores; at least one point must have some.
      is_share: Whether the score is a share in 0..1, shown in percent.
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    scored = [index for index in order if points[index].scores]
    failed = [values[index] for index in order if not points[index].scores]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        spreads = [points[index].scores["validation"] for index in scored]
        x, y = [values[index] for index in scored], [spread["mean"] for spread in spreads]
        axes.plot(x, y, color=VALIDATION, linewidth=1.0, alpha=0.45)
        axes.plot(x, y, color=VALIDATION, marker="o", markersize=6, linestyle="none")
        lows, highs = ([spread[end] for spread in spreads] for end in ("low", "high"))
        axes.vlines(x, lows, highs, color=VALIDATION, linewidth=1.8)
        for index in scored:
            if points[index].is_best:
                mean = points[index].scores["validation"]["mean"]
                draw_ring(axes, values[index], mean, size=13)
        _set_value_axis(axes, values)
        axes.plot(
            failed,
            [0.0] * len(failed),
            color=SOFT,
            marker="x",
            markersize=7,
            markeredgewidth=1.8,
            linestyle="none",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
        axes.set(xlabel=short_label(field, 60))
        if is_share:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        name = f"Validation {metric} by {short_label(field, 60)}"
        return Plot(name, as_svg(figure, "trials", name))


def score_by_row(metric: str, rows: Sequence[Scored], is_share: bool = True) -> Plot:
    """Plot one row of dots per entry of `rows`, from the top down. Failed entries have no dots."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 0.75 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        for y, row in enumerate(rows):
            axes.axhline(y, color=SOFT, linewidth=0.5, alpha=0.4)
            for split, spread in row.scores.items():
                colour, marker, size = _DOTS[split]
                axes.hlines(y, spread["low"], spread["high"], color=colour, linewidth=1.8)
                axes.plot(spread["mean"], y, color=colour, marker=marker, markersize=size)
            if row.is_best:
                draw_ring(axes, row.scores["validation"]["mean"], y, size=13)
        labels = [short_label(row.label, _LABEL_LENGTH) for row in rows]
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=5)
        if is_share:
            axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        name = f"{metric} by trial" if len(rows[0].scores) > 1 else f"Validation {metric} by row"
        return Plot(name, as_svg(figure, "trials", name))


def _set_value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Set the scale of the x axis, and ticks at the values themselves where they fit."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _MAX_LINEAR_RATIO:
        axes.set_xscale("log")
    axes.margins(x=0.08)
    unique = sorted(set(values))
    if len(unique) <= _MAX_TICKS and _ticks_fit(axes.xaxis, unique):
        axes.set_xticks(unique, [f"{value:.3g}" for value in unique])
        axes.xaxis.set_minor_locator(NullLocator())


def _ticks_fit(axis: Axis, values: Sequence[float]) -> bool:
    """Return whether tick labels at the values, in ascending order, would not overlap."""
    positions = axis.get_transform().transform(values)
    gaps = np.diff(positions)
    return not gaps.size or bool(gaps.min() > (positions[-1] - positions[0]) / 10)


def _percent(share: float, _: int | None) -> str:
    return f"{100 * share:.4g}\N{NO-BREAK SPACE}%"
