"""The README.md of a run folder: a model card with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft_keras.report.templates import markdown_template

_WORST_CLASSES = 3
_NAMED_CLASSES = 50


def render_model_card(report: Mapping[str, Any], pipeline_tag: str) -> str:
    """Return the model card as Markdown, with the Hub's metadata as YAML front matter.

    Args:
      report: The report as documented for `write_report`, in plain values.
      pipeline_tag: The Hub's name of the task, e.g. "image-classification".
    """
    test, score = report["test"], report["score"]
    result = {
        "task": {"type": pipeline_tag},
        "dataset": {"name": report["data"]["source"], "type": report["data"]["source"]},
        "metrics": [{"type": score, "value": test[score]["value"]}],
    }
    front_matter = {
        "library_name": "keras",
        "pipeline_tag": pipeline_tag,
        "tags": ["sft_keras", "keras"],
        "model-index": [{"name": report["title"], "results": [result]}],
    }
    tested = [row for row in test.get("per_class", ()) if row["support"]]
    return markdown_template("model_card.md.j2").render(
        report=report,
        test=test,
        front_matter=front_matter,
        arguments=_example_arguments(report["export"] or {}),
        worst=sorted(tested, key=lambda row: row["f1"])[:_WORST_CLASSES],
        max_classes=_NAMED_CLASSES,
    )


def _example_arguments(export: Mapping[str, Any]) -> str:
    """Return the arguments of an example call of the exported model; "" without an export."""
    signature = export.get("signatures", {}).get("serving_default")
    if signature is None:
        return ""
    # E.g. "texts: string (None,), text_pairs: string (None,)".
    names = [part.split(":")[0].strip() for part in signature.split("),")]
    if names == ["image_bytes"]:
        return 'image_bytes=tf.constant([open("photo.jpg", "rb").read()])'
    return ", ".join(f'{name}=tf.constant(["..."])' for name in names)
