"""SVG plots that take their colours and fonts from the page around them."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholder colours that matplotlib writes. `as_svg` replaces them with the page's variables,
# which differ between light and dark mode.
PAGE_COLOURS = {
    "#010101": "var(--soft)",
    "#020202": "var(--line)",
    "#030303": "var(--train)",
    "#040404": "var(--validation)",
    "#050505": "var(--good)",
}
SOFT, LINE, TRAIN, VALIDATION, TEST = PAGE_COLOURS

# Mid-tones, visible on white and on black. Opacity encodes the value.
RIGHT_RGB = (42, 140, 130)
WRONG_RGB = (222, 90, 50)

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # Text stays text, because browsers have fonts for every script.
    "svg.hashsalt": "sft_keras",  # The same data give the same bytes.
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
    """A plot: its heading and its `<svg>` element."""

    title: str
    svg: str


def draw_ring(axes: Axes, x: float, y: float, size: float) -> None:
    """Mark the point (x, y) with a ring of a diameter of `size` points."""
    axes.plot(
        x,
        y,
        marker="o",
        markersize=size,
        markerfacecolor="none",
        markeredgecolor=VALIDATION,
        markeredgewidth=1.6,
        clip_on=False,
    )


def short_label(name: str, length: int = 20) -> str:
    """Return `name` truncated to `length`, without characters that XML cannot express."""
    printable = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name
    )
    return printable if len(printable) <= length else printable[: length - 1] + "…"


def as_svg(figure: Figure, name: str, description: str) -> str:
    """Return `figure` as an `<svg>` element for an HTML page.

    Args:
      figure: The figure to draw.
      name: A prefix for the ids inside the SVG, unique within the page.
      description: The text alternative for screen readers.
    """
    drawing = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # matplotlib's default font lacks many scripts. The browser that draws the text has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(drawing, format="svg", transparent=True, metadata=metadata)
    text = drawing.getvalue()
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    root = ElementTree.fromstring(text)
    # A `<style>` inside the SVG would apply to the whole page.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        # SVG elements inside HTML need no namespaces, and the page must contain no URLs.
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
