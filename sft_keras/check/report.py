"""The report page of a data check, with the affected images or texts side by side."""

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

_SHOWN_GROUPS = 24  # per finding; check.json has all of them
_SHOWN_IN_GROUP = 4
_THUMBNAIL_SIDE = 160  # pixels
_MAX_CHARACTERS = 600


def write_page(
    checked: Checked, prepared: Mapping[str, Prepared], title: str, command: str, path: Path
) -> None:
    """Write the page atomically.

    Args:
      checked: The findings.
      prepared: The splits, without unreadable examples.
      title: Name of the recipe.
      command: Command that repeats the check.
      path: File to write.
    """
    shown = [_limited(finding) for finding in checked.findings]
    wanted = {
        (example.split, example.id)
        for groups in shown
        for group in groups
        for example in group["examples"]
    }
    previews = {name: _previews(split, name, wanted) for name, split in prepared.items()}
    findings: list[dict[str, Any]] = [
        {
            "kind": finding.kind,
            "what": finding.what,
            "spoils": finding.spoils,
            "count": finding.count,
            "more": len(finding.groups) - len(groups),
            "single": all(len(group["examples"]) == 1 for group in groups),
            "groups": [_group(group, previews) for group in groups],
        }
        for finding, groups in zip(checked.findings, shown, strict=True)
    ]
    for finding in findings:
        examples = [example for group in finding["groups"] for example in group["examples"]]
        finding["pictures"] = any(example["picture"] for example in examples)
    page = page_template("check.html.j2").render(
        report={"smoke": False},
        checked=checked,
        title=title,
        command=command,
        findings=findings,
        splits=list(checked.about["sizes"]),
    )
    write_atomic(path, page)


def _limited(finding: Finding) -> list[dict[str, Any]]:
    """Return the groups and examples of a finding that the page shows."""
    return [
        {"examples": group[:_SHOWN_IN_GROUP], "more": len(group) - _SHOWN_IN_GROUP}
        for group in finding.groups[:_SHOWN_GROUPS]
    ]


def _group(
    group: Mapping[str, Any], previews: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return a group as the template reads it."""
    examples: Sequence[Example] = group["examples"]
    no_preview = {"picture": None, "text": None}
    return {
        "more": max(0, group["more"]),
        "examples": [
            {
                "id": example.id,
                "split": example.split,
                "note": example.note,
                **previews.get(example.split, {}).get(example.id, no_preview),
            }
            for example in examples
        ],
    }


def _previews(
    prepared: Prepared, split: str, wanted: set[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """Return {id: {"picture", "text"}} of the wanted examples of a split."""
    ids = prepared.examples.ids
    positions = {index for index, name in enumerate(ids) if (split, name) in wanted}
    if not positions:
        return {}
    previews = {}
    for element in prepared.examples.stream(None):
        index = int(element["index"])
        if index in positions:
            previews[ids[index]] = _preview(prepared, element, ids[index])
    return previews


def _preview(prepared: Prepared, element: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the thumbnail of an image, or the beginning of a text."""
    if "image" in element:
        read: Any = prepared.read
        small = tf.image.resize(
            read(element),
            [_THUMBNAIL_SIDE, _THUMBNAIL_SIDE],
            preserve_aspect_ratio=True,
            antialias=True,
        )
        encoded = tf.io.encode_png(tf.cast(tf.clip_by_value(small, 0, 255), tf.uint8)).numpy()
        return {"picture": embedded_image(encoded, name), "text": None}
    for field in ("texts", "words"):
        if field in element:
            parts = [part.decode("utf-8", "replace") for part in element[field].numpy()]
            text = ("\n" if field == "texts" else " ").join(parts)
            break
    else:
        text = element["question"].numpy().decode("utf-8", "replace")
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS] + " …"
    return {"picture": None, "text": text}
