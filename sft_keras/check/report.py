"""The page on what a check found, with the pictures or texts side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from sft_keras.check.findings import Checked, Example, Finding
from sft_keras.core.files import write_atomic
from sft_keras.data.prepared import Prepared
from sft_keras.report.run_page import embedded_image
from sft_keras.report.templates import page_template

_SHOWN_GROUPS = 24  # of each finding; all are in check.json
_SHOWN_IN_GROUP = 4
_SIDE = 160  # pixels
_LONGEST = 600  # characters


def write_page(
    checked: Checked, prepared: Mapping[str, Prepared], title: str, command: str, path: Path
) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
      checked: What was found.
      prepared: The splits, without what cannot be read.
      title: The recipe's name.
      command: What to repeat the check with.
      path: Where to write.
    """
    shown = [_cut(finding) for finding in checked.findings]
    wanted = {
        (each.split, each.id) for groups in shown for group in groups for each in group["examples"]
    }
    looks = {name: _looks(part, name, wanted) for name, part in prepared.items()}
    findings = [
        {
            "kind": finding.kind,
            "what": finding.what,
            "spoils": finding.spoils,
            "count": finding.count,
            "more": len(finding.groups) - len(groups),
            "single": all(len(group["examples"]) == 1 for group in groups),
            "groups": [_group(group, looks) for group in groups],
        }
        for finding, groups in zip(checked.findings, shown, strict=True)
    ]
    for finding in findings:
        examples = [each for group in finding["groups"] for each in group["examples"]]
        finding["pictures"] = any(each["picture"] for each in examples)
    page = page_template("check.html.j2").render(
        report={"smoke": False},
        checked=checked,
        title=title,
        command=command,
        findings=findings,
        splits=list(checked.about["sizes"]),
    )
    write_atomic(path, page)


def _cut(finding: Finding) -> list[dict[str, Any]]:
    return [
        {"examples": group[:_SHOWN_IN_GROUP], "more": len(group) - _SHOWN_IN_GROUP}
        for group in finding.groups[:_SHOWN_GROUPS]
    ]


def _group(
    group: Mapping[str, Any], looks: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    examples: Sequence[Example] = group["examples"]
    nothing = {"picture": None, "text": None}
    return {
        "more": max(0, group["more"]),
        "examples": [
            {
                "id": each.id,
                "split": each.split,
                "note": each.note,
                **looks.get(each.split, {}).get(each.id, nothing),
            }
            for each in examples
        ],
    }


def _looks(
    prepared: Prepared, split: str, wanted: set[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """Returns {id: {"picture", "text"}} of the examples of a split that are shown."""
    ids = prepared.examples.ids
    places = {index for index, name in enumerate(ids) if (split, name) in wanted}
    if not places:
        return {}
    found = {}
    for element in prepared.examples.stream(None):
        index = int(element["index"])
        if index in places:
            found[ids[index]] = _look(prepared, element, ids[index])
    return found


def _look(prepared: Prepared, element: Mapping[str, Any], name: str) -> dict[str, Any]:
    if "image" in element:
        pixels = prepared.read(element)
        small = tf.image.resize(pixels, [_SIDE, _SIDE], preserve_aspect_ratio=True, antialias=True)
        encoded = tf.io.encode_png(tf.cast(tf.clip_by_value(small, 0, 255), tf.uint8)).numpy()
        return {"picture": embedded_image(encoded, name), "text": None}
    for field in ("texts", "words"):
        if field in element:
            parts = [part.decode("utf-8", "replace") for part in element[field].numpy()]
            text = ("\n" if field == "texts" else " ").join(parts)
            break
    else:
        text = element["question"].numpy().decode("utf-8", "replace")
    return {"picture": None, "text": text if len(text) <= _LONGEST else text[:_LONGEST] + " …"}
