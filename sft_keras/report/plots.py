"""The report's plots, as SVG that takes its colours and fonts from the page around it."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from sft_keras.report.format import figure_name

# matplotlib writes these; `as_svg` puts the page's in place, which differ by colour scheme.
PAGE_COLOURS = {
    "#010101": "var(--soft)",
    "#020202": "var(--line)",
    "#030303": "var(--train)",
    "#040404": "var(--validation)",
    "#050505": "var(--good)",
}
SOFT, LINE, TRAIN, VALIDATION, TEST = PAGE_COLOURS

# Mid-tones, which stand out on white as on black; opacity says the rest.
RIGHT_RGB = (42, 140, 130)
WRONG_RGB = (222, 90, 50)

STYLE = {
    "svg.fonttype": "none",  # Text stays text: the browser has fonts for every script.
    "svg.hashsalt": "sft_keras",  # The same figures give the same file.
    "font.size": 10,
    "text.color": SOFT,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.limits": (-4, 6),
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True)
class Plot:
    """One plot: its heading and its `<svg>` element."""

    title: str
    svg: str


@dataclass(frozen=True)
class _Span:
    """Where a stage lies on the joined axis: its epochs are `start + 1 .. start + length`."""

    stage: Mapping[str, Any]
    start: int
    length: int


def learning_curves(stages: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """Returns loss, other figures and learning rate over all stages' epochs, joined.

    Args:
      stages: Each with `name`, `best_epoch` (from 1 within the stage, or None) and `history`,
        a list per figure with one entry an epoch, None where there is none.

    Returns:
      One plot per figure that any stage recorded; none if nothing was.
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
    watched = [key for key in keys if key not in ("loss", "learning_rate")]
    panels = (
        *((_title(key), ((key, TRAIN), (f"val_{key}", VALIDATION))) for key in ("loss", *watched)),
        ("Learning rate", (("learning_rate", TRAIN),)),
    )
    return [
        Plot(title, _curves(title, lines, spans))
        for title, lines in panels
        if any(_recorded(span, key) for span in spans for key, _ in lines)
    ]


def _title(key: str) -> str:
    name = figure_name(key)
    return name[0].upper() + name[1:]


def rate_test_plot(test: Mapping[str, Any], stage: str, number: int) -> Plot:
    """Returns a learning-rate range test: the loss over the rate, and which rate was chosen.

    Args:
      test: A `RangeTest` as plain values: `rates`, `losses` and `smoothed` of each step, the
        `bounds` of the fall, and the rate `chosen`.
      stage: The stage's name; the plot's title.
      number: Of the plot, different for each in a page.
    """
    rates, losses, smoothed = test["rates"], test["losses"], test["smoothed"]
    before = [loss for rate, loss in zip(rates, losses) if rate <= test["bounds"][1]]
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
        # Where training breaks down the loss may be a thousand times what the test is about.
        top, bottom = min(max(losses), 1.3 * max(before)), min(losses)
        margin = 0.05 * (top - bottom)
        axes.set_ylim(0 if 0 <= bottom < 0.5 * top else bottom - margin, top + margin)
        axes.set(xlabel="learning rate", ylabel="loss")
        title = short_label(stage)
        description = f"Loss by learning rate in the range test of {title}"
        return Plot(title, as_svg(figure, f"rate-test-{number}", description))


def confusion_heat_map(matrix: Sequence[Sequence[int]]) -> Plot:
    """Returns a confusion matrix as a picture, one pixel a cell; for many classes.

    Args:
      matrix: Counts, [num_classes, num_classes], rows the true classes. Colour as
        `opacity` has it.
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
    """Returns each count's share of its row, float64 in 0..1; 0 where the row is empty."""
    counts = np.asarray(matrix, np.float64)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def opacity(shares: np.ndarray) -> np.ndarray:
    """Returns how strongly to draw cells with these `row_shares`, float64 in 0..1.

    The square root and the step above 0 let a single confusion among hundreds be seen.
    """
    return np.where(shares > 0, 0.1 + 0.9 * np.sqrt(shares), 0.0)


def _recorded(span: _Span, key: str) -> bool:
    return any(value is not None for value in span.stage["history"].get(key, ()))


def _curves(title: str, lines: Sequence[tuple[str, str]], spans: Sequence[_Span]) -> str:
    """Returns one panel as SVG."""
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
        _name_stages(axes, spans, epochs)
        return as_svg(figure, title.lower().replace(" ", "-"), f"{title} by epoch")


def _draw_line(axes: Axes, span: _Span, key: str, colour: str, dots: bool) -> list[float]:
    """Draws one figure of one stage; returns the values drawn. None leaves a gap."""
    values = span.stage["history"].get(key, ())
    x = [span.start + 1 + index for index in range(len(values))]
    y = [math.nan if value is None else value for value in values]
    # Without dots a single epoch, or one between two gaps, would not be seen at all.
    marker = "o" if dots or len(values) == 1 or None in values else None
    axes.plot(x, y, color=colour, linewidth=1.8, marker=marker, markersize=3.2)
    return [value for value in values if value is not None]


def _mark_best(axes: Axes, span: _Span, key: str) -> None:
    """Rings the epoch whose weights the stage kept."""
    best, values = span.stage["best_epoch"], span.stage["history"].get(key, ())
    if best is None or not 1 <= best <= len(values) or values[best - 1] is None:
        return
    axes.plot(
        span.start + best,
        values[best - 1],
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=VALIDATION,
        markeredgewidth=1.6,
        clip_on=False,
    )


def _name_stages(axes: Axes, spans: Sequence[_Span], epochs: int) -> None:
    """Draws the boundaries between stages and writes each stage's name above its stretch."""
    labels = [short_label(str(span.stage["name"])) for span in spans]
    # 46 characters are about as wide as the axes; crowded names take turns on two rows.
    crowded = any(
        len(label) > 46 * span.length / epochs for label, span in zip(labels, spans, strict=True)
    )
    for number, (label, span) in enumerate(zip(labels, spans, strict=True)):
        left = span.start + 0.5
        if span.start:
            axes.axvline(left, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
        at_the_edge = span.start > 0.6 * epochs and crowded
        axes.text(
            left + span.length if at_the_edge else left,
            1.1 if crowded and number % 2 else 1.02,
            label,
            transform=axes.get_xaxis_transform(),
            horizontalalignment="right" if at_the_edge else "left",
            verticalalignment="bottom",
            parse_math=False,
        )


def short_label(name: str, length: int = 20) -> str:
    """Returns `name` cut to `length` and without characters that XML cannot hold."""
    printable = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    return printable if len(printable) <= length else printable[: length - 1] + "…"


def as_svg(figure: Figure, name: str, description: str) -> str:
    """Returns `figure` as an `<svg>` for use inside an HTML page.

    Args:
      figure: What to draw.
      name: Unique in the page: ids inside the SVG begin with it, since a page has one set of ids.
      description: What a screen reader says.
    """
    drawing = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # matplotlib's own font lacks many scripts; the browser, which draws the text, has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(drawing, format="svg", transparent=True, metadata=metadata)
    text = drawing.getvalue()
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    root = ElementTree.fromstring(text)
    # The style would apply to the whole page.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        # Inside HTML the elements need no namespaces, and the page no foreign addresses.
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            value = value.replace("url(#", f"url(#{name}-")
            if key == "id":
                value = f"{name}-{value}"
            elif key.endswith("href") and value.startswith("#"):
                value = f"#{name}-{value[1:]}"
            element.attrib[key.rpartition("}")[2]] = value
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"class": "plot", "role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode")


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
