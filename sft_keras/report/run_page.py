"""Renders the report's page: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft_keras.report.calibration_plot import reliability_plot
from sft_keras.report.plots import (
    Plot,
    confusion_heat_map,
    learning_curves,
    length_plot,
    opacity,
    rate_test_plot,
    row_shares,
)
from sft_keras.report.templates import page_template

# Up to so many classes the confusion matrix is a table with numbers, then one with colours
# alone; a table for still more would not fit any screen and becomes a picture.
_NUMBERED_CLASSES = 15
_TABLE_CLASSES = 40
_LISTED_CONFUSIONS = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def render_page(report: Mapping[str, Any], pictures: Sequence[bytes]) -> str:
    """Returns the page as HTML.

    Args:
      report: The report as `write_report` documents it, in plain values.
      pictures: As for `write_report`.

    Raises:
      ValueError: A picture is no PNG file, or is not there.
    """
    test = report["test"]
    return page_template("report.html.j2").render(
        report=report,
        test=test,
        data=report["data"],
        model=report["model"],
        support=sum(one["support"] for one in test.get("per_class", ())),
        curves=[safe_plot(plot) for plot in learning_curves(report["stages"])],
        rate_tests=_rate_tests(report["stages"]),
        estimates=[name for name, each in test.items() if _is_estimate(each)],
        amounts=[name for name, each in test.items() if isinstance(each, float) and name != "loss"],
        confusion=_confusion(test) if "confusion_matrix" in test else None,
        classes=_worst_first(test.get("per_class", ())),
        mistakes=with_pictures(report["mistakes"], pictures),
        uncertain=with_pictures(report["uncertain"], pictures),
        lengths=_lengths(report["inputs"]),
        reliability=_reliability(test),
        saved_seconds=_saved_seconds(report["stages"]),
        recipe_lines=list(flattened(report["recipe"])),
    )


def safe_plot(plot: Plot) -> dict[str, Any]:
    """Returns a plot for the template; its SVG comes from an XML writer, which escaped it."""
    return {"title": plot.title, "svg": Markup(plot.svg)}


def _is_estimate(figure: Any) -> bool:
    return isinstance(figure, Mapping) and figure.keys() == {"value", "low", "high"}


def _rate_tests(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the range tests of the stages that had one, each with its plot."""
    return [
        {
            **safe_plot(rate_test_plot(stage["rate_test"], stage["name"], number)),
            **stage["rate_test"],
        }
        for number, stage in enumerate(stages)
        if stage["rate_test"] is not None
    ]


def _confusion(test: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the confusion matrix as a table or, for many classes, as a picture."""
    matrix = test["confusion_matrix"]
    names = [one["name"] for one in test["per_class"]]
    shares = row_shares(matrix)
    confused = sorted(
        (
            {
                "true": names[row],
                "predicted": names[column],
                "count": n,
                "share": shares[row, column],
            }
            for row, counts in enumerate(matrix)
            for column, n in enumerate(counts)
            if row != column and n
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
        view["plot"] = safe_plot(confusion_heat_map(matrix))
    else:
        # At most 0.7, so that the numbers stay legible on the colour.
        opacities = (0.7 * opacity(shares)).round(3)
        view["rows"] = [
            [
                {"count": n, "share": share, "opacity": strength}
                for n, share, strength in zip(*row, strict=True)
            ]
            for row in zip(matrix, shares.tolist(), opacities.tolist(), strict=True)
        ]
    return view


def _worst_first(per_class: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the classes by rising F1, each with its number; those never tested come last."""
    numbered = [{**one, "number": number} for number, one in enumerate(per_class)]
    return sorted(
        numbered,
        key=lambda one: (
            not one["support"],
            1.0 if one["f1"] is None else one["f1"],
            one["number"],
        ),
    )


def with_pictures(
    rows: Sequence[Mapping[str, Any]], pictures: Sequence[bytes]
) -> list[dict[str, Any]]:
    """Returns examples, each with its picture, if it has one, as the template wants it."""
    fields = ("true", "predicted", "probability", "second", "second_probability", "text", "marked")
    usual = dict.fromkeys((*fields, "picture"))
    return [
        {
            **usual,
            "right": row.get("predicted") == row.get("true"),
            **row,
            "picture": _picture_of(row, pictures),
        }
        for row in rows
    ]


def _picture_of(row: Mapping[str, Any], pictures: Sequence[bytes]) -> dict[str, Any] | None:
    number = row.get("picture")
    if number is None:
        return None
    if number >= len(pictures):
        raise ValueError(
            f"The report needs a picture for each example that names one. {row['id']!r} names "
            f"number {number}, counted from 0. Received: {len(pictures)} pictures."
        )
    return {"number": number, **picture(pictures[number], row["id"])}


def _lengths(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns how long texts are, with a plot; None where inputs are no texts."""
    plot = length_plot(inputs)
    return None if plot is None else safe_plot(plot)


def picture(file: bytes, name: str) -> dict[str, Any]:
    """Returns a PNG file as {"uri", "width", "height"}, the latter in pixels."""
    if not file.startswith(_PNG_SIGNATURE) or len(file) < 24:
        raise ValueError(
            "The report's pictures must be the bytes of PNG files. "
            f"Received for {name!r}: {len(file)} bytes that begin with {file[:8]!r}."
        )
    # The first chunk of every PNG file is the header, which begins with the size.
    width, height = struct.unpack(">II", file[16:24])
    uri = "data:image/png;base64," + base64.b64encode(file).decode("ascii")
    return {"uri": uri, "width": width, "height": height}


def _reliability(test: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how far probabilities can be believed, with a plot; None where that is not known."""
    found = test.get("calibration")
    return None if found is None else {**found, **safe_plot(reliability_plot(found))}


def _saved_seconds(stages: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns about how long frozen blocks would have computed beyond what they did, or None."""
    once = [(stage, stage["frozen_pass"]) for stage in stages if stage.get("frozen_pass")]
    if not once:
        return None
    in_epochs = sum(stage["epochs_run"] * done["epoch_seconds"] for stage, done in once)
    # A pass that served several stages is the same number of seconds in each.
    saved = in_epochs - sum({done["seconds"] for _, done in once})
    return max(saved, 0.0) or None


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields ("stages.head.epochs", "8"), ...: each value under the name that overrides use."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flattened(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from flattened(item, f"{path}.{name}")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
