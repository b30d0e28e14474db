"""The plots of a run: learning curves, range test, confusion matrix, text lengths, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from sft_keras.report.format import metric_label
from sft_keras.report.svg import (
    LINE,
    RIGHT_RGB,
    SOFT,
    STYLE,
    TRAIN,
    VALIDATION,
    WRONG_RGB,
    Plot,
    as_svg,
    draw_ring,
    short_label,
)

_SMALLEST_DOT, _LARGEST_DOT = 12.0, 160.0  # areas in square points


@dataclass(frozen=True)
class _Span:
    """The epochs of a stage on the common axis: `start + 1 .. start + length`."""

    stage: Mapping[str, Any]
    start: int
    length: int


def learning_curves(stages: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """Plot loss, metrics and learning rate over the epochs of all stages, end to end.

    Args:
      stages: The stages, each with `name`, `best_epoch` (from 1 within the stage, or None) and
        `history`: per metric a list with one value per epoch, None where it is missing.

    Returns:
      One plot per metric that any stage recorded.
    """
    spans: list[_Span] = []
    start = 0
    for stage in stages:
        length = max((len(values) for values in stage["history"].values()), default=0)
        if length:
            spans.append(_Span(stage, start, length))
        start += length
    keys = dict.fromkeys(
        key.removeprefix("val_") for span in spans for key in span.stage["history"]
    )
    metrics = [key for key in keys if key not in ("loss", "learning_rate")]
    panels = (
        *((_title(key), ((key, TRAIN), (f"val_{key}", VALIDATION))) for key in ("loss", *metrics)),
        ("Learning rate", (("learning_rate", TRAIN),)),
    )
    return [
        Plot(title, _curves(title, lines, spans))
        for title, lines in panels
        if any(_recorded(span, key) for span in spans for key, _ in lines)
    ]


def _title(key: str) -> str:
    name = metric_label(key)
    return name[0].upper() + name[1:]


def rate_test_plot(test: Mapping[str, Any], stage: str, number: int) -> Plot:
    """Plot a learning-rate range test: the loss over the learning rate, and the chosen rate.

    Args:
      test: A `RangeTest` as plain values: `rates`, `losses` and `smoothed` per step, the `bounds`
        of the range in which the loss falls, and the `chosen` rate.
      stage: The name of the stage, used as the title.
      number: The number of the plot, unique within the page.
    """
    rates, losses, smoothed = test["rates"], test["losses"], test["smoothed"]
    until_minimum = [loss for rate, loss in zip(rates, losses) if rate <= test["bounds"][1]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.axvspan(*test["bounds"], color=TRAIN, alpha=0.12, linewidth=0)
        axes.plot(
            rates, losses, linestyle="none", marker="o", markersize=2.6, color=SOFT, alpha=0.7
        )
        axes.plot(rates, smoothed, color=TRAIN, linewidth=1.8)
        axes.axvline(test["chosen"], color=VALIDATION, linewidth=1.8)
        axes.set_xscale("log")
        axes.set_xlim(rates[0], rates[-1])
        axes.xaxis.set_major_locator(LogLocator(numticks=9))
        axes.xaxis.set_minor_locator(NullLocator())
        # Where training diverges the loss may be a thousand times that of the range of interest.
        top, bottom = min(max(losses), 1.3 * max(until_minimum)), min(losses)
        margin = 0.05 * (top - bottom)
        axes.set_ylim(0 if 0 <= bottom < 0.5 * top else bottom - margin, top + margin)
        axes.set(xlabel="learning rate", ylabel="loss")
        title = short_label(stage)
        description = f"Loss by learning rate in the range test of {title}"
        return Plot(title, as_svg(figure, f"rate-test-{number}", description))


def confusion_heat_map(matrix: Sequence[Sequence[int]]) -> Plot:
    """Plot a confusion matrix for many classes as an image with one pixel per cell.

    Args:
      matrix: Counts, [num_classes, num_classes]; rows are the true classes.
    """
    shares = row_shares(matrix)
    pixels = np.empty((*shares.shape, 4))
    pixels[..., :3] = np.array(WRONG_RGB) / 255
    diagonal = np.arange(len(shares))
    pixels[diagonal, diagonal, :3] = np.array(RIGHT_RGB) / 255
    pixels[..., 3] = opacity(shares)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.imshow(pixels, interpolation="none")
        axes.spines[:].set_visible(True)
        axes.set(xlabel="predicted class, by number", ylabel="true class, by number")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return Plot("Confusion matrix", as_svg(figure, "confusion", "Confusion matrix"))


def row_shares(matrix: Sequence[Sequence[int]]) -> np.ndarray:
    """Return each count as a fraction of its row, float64 in 0..1; 0 where the row is empty."""
    counts = np.asarray(matrix, np.float64)
    shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def opacity(shares: np.ndarray) -> np.ndarray:
    """Return the opacity of cells with these `row_shares`, float64 in 0..1.

    The square root and the offset above 0 make a single confusion among hundreds visible.
    """
    return np.where(shares > 0, 0.1 + 0.9 * np.sqrt(shares), 0.0)


def _recorded(span: _Span, key: str) -> bool:
    return any(value is not None for value in span.stage["history"].get(key, ()))


def _curves(title: str, lines: Sequence[tuple[str, str]], spans: Sequence[_Span]) -> str:
    """Return the curves of one metric as SVG."""
    epochs = spans[-1].start + spans[-1].length
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        drawn: list[float] = []
        for span in spans:
            for key, colour in lines:
                drawn += _draw_line(axes, span, key, colour, dots=epochs <= 30)
            _mark_best(axes, span, lines[-1][0])
        if title == "Learning rate":
            if min(drawn) > 0 and max(drawn) / min(drawn) > 20:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
        axes.set_xlim(0.5, epochs + 0.5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        _label_stages(axes, spans, epochs)
        return as_svg(figure, title.lower().replace(" ", "-"), f"{title} by epoch")


def _draw_line(axes: Axes, span: _Span, key: str, colour: str, dots: bool) -> list[float]:
    """Draw one metric of one stage and return the values drawn. None leaves a gap."""
    values = span.stage["history"].get(key, ())
    x = [span.start + 1 + index for index in range(len(values))]
    y = [math.nan if value is None else value for value in values]
    # Without markers a single epoch, or an epoch between two gaps, would be invisible.
    marker = "o" if dots or len(values) == 1 or None in values else None
    axes.plot(x, y, color=colour, linewidth=1.8, marker=marker, markersize=3.2)
    return [value for value in values if value is not None]


def _mark_best(axes: Axes, span: _Span, key: str) -> None:
    """Mark the epoch whose weights the stage kept with a ring."""
    best, values = span.stage["best_epoch"], span.stage["history"].get(key, ())
    if best is None or not 1 <= best <= len(values) or values[best - 1] is None:
        return
    draw_ring(axes, span.start + best, values[best - 1], size=9)


def _label_stages(axes: Axes, spans: Sequence[_Span], epochs: int) -> None:
    """Draw the boundaries between stages and the name of each stage above its epochs."""
    labels = [short_label(str(span.stage["name"])) for span in spans]
    # 46 characters are about as wide as the axes. Crowded names alternate between two rows.
    crowded = any(
        len(label) > 46 * span.length / epochs for label, span in zip(labels, spans, strict=True)
    )
    for number, (label, span) in enumerate(zip(labels, spans, strict=True)):
        left = span.start + 0.5
        if span.start:
            axes.axvline(left, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
        right_aligned = span.start > 0.6 * epochs and crowded
        axes.text(
            left + span.length if right_aligned else left,
            1.1 if crowded and number % 2 else 1.02,
            label,
            transform=axes.get_xaxis_transform(),
            horizontalalignment="right" if right_aligned else "left",
            verticalalignment="bottom",
            parse_math=False,
        )


def length_plot(inputs: Mapping[str, Mapping[str, Any]]) -> Plot | None:
    """Plot the histogram of training texts by length, with the sequence length.

    Args:
      inputs: The preprocessing statistics per split. Those of texts have `lengths`, {"width": bin
        width in tokens, "counts": texts per bin}, and `sequence_length`; they have `windows` if
        longer texts are split into windows rather than truncated.

    Returns:
      The plot, or None if the inputs are not texts.
    """
    statistics = inputs.get("train") or {}
    if "lengths" not in statistics:
        return None
    width, counts = statistics["lengths"]["width"], statistics["lengths"]["counts"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        edges = [width * number for number in range(len(counts))]
        axes.bar(edges, counts, width=0.9 * width, align="edge", color=TRAIN, alpha=0.8)
        limit = statistics["sequence_length"]
        if limit <= edges[-1] + width:
            axes.axvline(limit, color=VALIDATION, linewidth=1.8)
            axes.annotate(
                "split into windows" if "windows" in statistics else "truncated here",
                (limit, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(4, -10),
                textcoords="offset points",
                color=SOFT,
            )
        axes.set(xlabel="tokens", ylabel="training texts")
        return Plot("Length", as_svg(figure, "lengths", "Training texts by their length in tokens"))


def reliability_plot(calibration: Mapping[str, Any]) -> Plot:
    """Plot the reliability diagram: accuracy over confidence, before and after scaling.

    Args:
      calibration: The calibration of the test split as plain values, with its `bins`; that before
        temperature scaling is under "before".
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.grid()
        axes.set_axisbelow(True)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for bins, colour in (
            (calibration["before"]["bins"], TRAIN),
            (calibration["bins"], VALIDATION),
        ):
            total = sum(group["count"] for group in bins)
            x, y = ([group[name] for group in bins] for name in ("confidence", "accuracy"))
            axes.plot(x, y, color=colour, linewidth=1.8)
            axes.scatter(
                x,
                y,
                [_SMALLEST_DOT + _LARGEST_DOT * group["count"] / total for group in bins],
                color=colour,
                edgecolors=LINE,
                zorder=3,
            )
        # Slightly beyond 0..1, so that dots in the corners are not clipped.
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xlabel="confidence", ylabel="accuracy")
        description = "Accuracy over confidence, before and after temperature scaling"
        return Plot("Reliability diagram", as_svg(figure, "reliability", description))
