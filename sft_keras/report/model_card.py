"""The run folder's README.md: a model card in the form that Hugging Face's hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft_keras.report.templates import markdown_template

_WORST = 3
_NAMED_CLASSES = 50


def render_model_card(report: Mapping[str, Any], pipeline_tag: str) -> str:
    """Returns the model card as Markdown, with what the hub sorts by at its head.

    Args:
      report: The report as `write_report` documents it, in plain values.
      pipeline_tag: What the hub calls the task, e.g. "image-classification".
    """
    test, score = report["test"], report["score"]
    result = {
        "task": {"type": pipeline_tag},
        "dataset": {"name": report["data"]["source"], "type": report["data"]["source"]},
        "metrics": [{"type": score, "value": test[score]["value"]}],
    }
    front = {
        "library_name": "keras",
        "pipeline_tag": pipeline_tag,
        "tags": ["sft_keras", "keras"],
        "model-index": [{"name": report["title"], "results": [result]}],
    }
    tested = [one for one in test.get("per_class", ()) if one["support"]]
    return markdown_template("model_card.md.j2").render(
        report=report,
        test=test,
        front=front,
        asked=_asked(report["export"] or {}),
        worst=sorted(tested, key=lambda one: one["f1"])[:_WORST],
        most=_NAMED_CLASSES,
    )


def _asked(export: Mapping[str, Any]) -> str:
    """Returns the arguments of a call of the exported model; "" where there is none."""
    signature = export.get("signatures", {}).get("serving_default")
    if signature is None:
        return ""
    # Such as "texts: string (None,), text_pairs: string (None,)".
    names = [part.split(":")[0].strip() for part in signature.split("),")]
    if names == ["image_bytes"]:
        return 'image_bytes=tf.constant([open("photo.jpg", "rb").read()])'
    return ", ".join(f'{name}=tf.constant(["..."])' for name in names)
