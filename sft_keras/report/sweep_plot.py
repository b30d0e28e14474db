"""The plot of a comparison of trials: score over value, or a row for each that is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from sft_keras.report.plots import (
    SOFT,
    STYLE,
    TEST,
    VALIDATION,
    Plot,
    as_svg,
    short_label,
)

# {split: (colour, shape, size)}; the second is drawn over the first, which must show around it.
_DOTS = {"validation": (VALIDATION, "o", 7.5), "test": (TEST, "D", 4.0)}
_WIDTH = 5.2  # inches; at the width of a phone its text can still be read
_LARGEST_LINEAR = 20.0  # largest of the values over the smallest
_MOST_TICKS = 8
_LABEL = 30  # characters


@dataclass(frozen=True)
class Scored:
    """What is drawn of one point or trial.

    Attributes:
      label: What it is called.
      scores: {split: {"mean", "low", "high"}}, shares in 0..1; empty if it failed.
      is_best: Whether to ring it.
    """

    label: str
    scores: Mapping[str, Mapping[str, float]]
    is_best: bool = False


def score_over_value(
    field: str, metric: str, values: Sequence[float], points: Sequence[Scored]
) -> Plot:
    """Returns the validation score over a field's value; a cross on the axis where a trial failed.

    Args:
      field: The field's path, below the axis.
      metric: What the score is.
      values: Of the field, one for each of `points`.
      points: At least one of which has a score.
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    done = [index for index in order if points[index].scores]
    failed = [values[index] for index in order if not points[index].scores]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        spreads = [points[index].scores["validation"] for index in done]
        x, y = [values[index] for index in done], [spread["mean"] for spread in spreads]
        axes.plot(x, y, color=VALIDATION, linewidth=1.0, alpha=0.45)
        axes.plot(x, y, color=VALIDATION, marker="o", markersize=6, linestyle="none")
        lows, highs = ([spread[end] for spread in spreads] for end in ("low", "high"))
        axes.vlines(x, lows, highs, color=VALIDATION, linewidth=1.8)
        for index in done:
            if points[index].is_best:
                _ring(axes, values[index], points[index].scores["validation"]["mean"])
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
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        name = f"Validation {metric} by {short_label(field, 60)}"
        return Plot(name, as_svg(figure, "trials", name))


def score_by_row(metric: str, rows: Sequence[Scored]) -> Plot:
    """Returns a row of dots for each of `rows`, from the top down; those that failed have none."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 0.75 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        for place, row in enumerate(rows):
            axes.axhline(place, color=SOFT, linewidth=0.5, alpha=0.4)
            for split, spread in row.scores.items():
                colour, shape, size = _DOTS[split]
                axes.hlines(place, spread["low"], spread["high"], color=colour, linewidth=1.8)
                axes.plot(spread["mean"], place, color=colour, marker=shape, markersize=size)
            if row.is_best:
                _ring(axes, row.scores["validation"]["mean"], place)
        labels = [short_label(row.label, _LABEL) for row in rows]
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        name = f"{metric} by trial" if len(rows[0].scores) > 1 else f"Validation {metric} by row"
        return Plot(name, as_svg(figure, "trials", name))


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        x,
        y,
        marker="o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor=VALIDATION,
        markeredgewidth=1.6,
        clip_on=False,
    )


def _set_value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Chooses the scale, and ticks at the values themselves where they have room."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _LARGEST_LINEAR:
        axes.set_xscale("log")
    axes.margins(x=0.08)
    different = sorted(set(values))
    if len(different) <= _MOST_TICKS and _have_room(axes.xaxis, different):
        axes.set_xticks(different, [f"{value:.3g}" for value in different])
        axes.xaxis.set_minor_locator(NullLocator())


def _have_room(axis: Axis, values: Sequence[float]) -> bool:
    """Whether labels at the values, in ascending order, would not touch."""
    places = axis.get_transform().transform(values)
    gaps = np.diff(places)
    return not gaps.size or gaps.min() > (places[-1] - places[0]) / 10


def _percent(share: float, _: int | None) -> str:
    return f"{100 * share:.4g}\N{NO-BREAK SPACE}%"
