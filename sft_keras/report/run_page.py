"""Renders report.html: one self-contained HTML file."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft_keras.core.flatten import flatten_as_text
from sft_keras.report.plots import (
    confusion_heat_map,
    learning_curves,
    length_plot,
    opacity,
    rate_test_plot,
    reliability_plot,
    row_shares,
)
from sft_keras.report.svg import Plot
from sft_keras.report.templates import page_template

# Up to _NUMBERED_CLASSES classes the confusion matrix is a table with counts, then a table of
# colours only. Above _TABLE_CLASSES no table fits a screen, and it becomes a heat map.
_NUMBERED_CLASSES = 15
_TABLE_CLASSES = 40
_LISTED_CONFUSIONS = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def render_page(report: Mapping[str, Any], images: Sequence[bytes]) -> str:
    """Return the page of one run as HTML.

    Args:
      report: The report as documented for `write_report`, in plain values.
      images: PNG files. An example refers to one by its index, as "picture".

    Raises:
      ValueError: An image is missing or is not a PNG file.
    """
    test = report["test"]
    return page_template("report.html.j2").render(
        report=report,
        test=test,
        data=report["data"],
        model=report["model"],
        support=sum(row["support"] for row in test.get("per_class", ())),
        curves=[plot_context(plot) for plot in learning_curves(report["stages"])],
        rate_tests=_rate_tests(report["stages"]),
        estimates=[name for name, value in test.items() if _is_estimate(value)],
        amounts=[
            name for name, value in test.items() if isinstance(value, float) and name != "loss"
        ],
        confusion=_confusion(test) if "confusion_matrix" in test else None,
        classes=_worst_first(test.get("per_class", ())),
        mistakes=with_images(report["mistakes"], images),
        uncertain=with_images(report["uncertain"], images),
        lengths=_text_lengths(report["inputs"]),
        calibration=_calibration(test),
        saved_seconds=_saved_seconds(report["stages"]),
        recipe_lines=list(flatten_as_text(report["recipe"])),
    )


def plot_context(plot: Plot) -> dict[str, Any]:
    """Return a plot for a template, its SVG marked as safe: an XML writer has escaped it."""
    return {"title": plot.title, "svg": Markup(plot.svg)}


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"value", "low", "high"}


def _rate_tests(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the learning-rate range tests of all stages that ran one, with their plots."""
    return [
        {
            **plot_context(rate_test_plot(stage["rate_test"], stage["name"], number)),
            **stage["rate_test"],
        }
        for number, stage in enumerate(stages)
        if stage["rate_test"] is not None
    ]


def _confusion(test: Mapping[str, Any]) -> dict[str, Any]:
    """Return the confusion matrix as a table or, for many classes, as a heat map."""
    matrix = test["confusion_matrix"]
    names = [row["name"] for row in test["per_class"]]
    shares = row_shares(matrix)
    confused = sorted(
        (
            {
                "true": names[row],
                "predicted": names[column],
                "count": cell,
                "share": shares[row, column],
            }
            for row, counts in enumerate(matrix)
            for column, cell in enumerate(counts)
            if row != column and cell
        ),
        key=lambda pair: (-pair["count"], -pair["share"]),
    )
    view = {
        "names": names,
        "numbered": len(names) <= _NUMBERED_CLASSES,
        "confused": confused[:_LISTED_CONFUSIONS],
        "rows": None,
        "plot": None,
    }
    if len(names) > _TABLE_CLASSES:
        view["plot"] = plot_context(confusion_heat_map(matrix))
    else:
        # At most 0.7, so that the counts stay legible on the colour.
        opacities = (0.7 * opacity(shares)).round(3)
        view["rows"] = [
            [
                {"count": cell, "share": share, "opacity": alpha}
                for cell, share, alpha in zip(*row, strict=True)
            ]
            for row in zip(matrix, shares.tolist(), opacities.tolist(), strict=True)
        ]
    return view


def _worst_first(per_class: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the classes by ascending F1, with their indices; classes without support last."""
    numbered = [{**row, "number": number} for number, row in enumerate(per_class)]
    return sorted(
        numbered,
        key=lambda row: (
            not row["support"],
            1.0 if row["f1"] is None else row["f1"],
            row["number"],
        ),
    )


def with_images(rows: Sequence[Mapping[str, Any]], images: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return examples with every field of the template, images embedded as data URIs."""
    fields = ("true", "predicted", "probability", "second", "second_probability", "text", "marked")
    defaults = dict.fromkeys((*fields, "picture"))
    return [
        {
            **defaults,
            "right": row.get("predicted") == row.get("true"),
            **row,
            "picture": _example_image(row, images),
        }
        for row in rows
    ]


def _example_image(row: Mapping[str, Any], images: Sequence[bytes]) -> dict[str, Any] | None:
    number = row.get("picture")
    if number is None:
        return None
    if number >= len(images):
        raise ValueError(
            f"images must contain every image that an example refers to. {row['id']!r} refers to "
            f"image {number}, counted from 0. Received: {len(images)} images."
        )
    return {"number": number, **embedded_image(images[number], row["id"])}


def _text_lengths(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the plot of text lengths, or None if the inputs are not texts."""
    plot = length_plot(inputs)
    return None if plot is None else plot_context(plot)


def embedded_image(png: bytes, name: str) -> dict[str, Any]:
    """Return a PNG file as {"uri", "width", "height"}: a data URI, and its size in pixels.

    Args:
      png: The encoded file.
      name: The id of the example, for the error message.

    Raises:
      ValueError: `png` is not a PNG file.
    """
    if not png.startswith(_PNG_SIGNATURE) or len(png) < 24:
        raise ValueError(
            "Images of the report must be encoded PNG files. "
            f"Received for {name!r}: {len(png)} bytes that begin with {png[:8]!r}."
        )
    # The first chunk of every PNG file is the header, which begins with width and height.
    width, height = struct.unpack(">II", png[16:24])
    uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return {"uri": uri, "width": width, "height": height}


def _calibration(test: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the calibration with its reliability diagram, or None if it was not measured."""
    calibration = test.get("calibration")
    if calibration is None:
        return None
    return {**calibration, **plot_context(reliability_plot(calibration))}


def _saved_seconds(stages: Sequence[Mapping[str, Any]]) -> float | None:
    """Return about how many seconds the feature cache saved; None if nothing was cached."""
    cached = [(stage, stage["frozen_pass"]) for stage in stages if stage.get("frozen_pass")]
    if not cached:
        return None
    uncached = sum(stage["epochs_run"] * once["epoch_seconds"] for stage, once in cached)
    # Stages that share one pass all list it, with the same number of seconds.
    saved = uncached - sum({once["seconds"] for _, once in cached})
    return max(saved, 0.0) or None
