"""The model card: valid metadata and literal names, whatever the names contain."""

import json

import pytest

from sft_keras.report.model_card import render_model_card
from sft_keras.report.templates import as_code, as_yaml

NAMES = ("a`b", "``", "c: {d}", "two\nlines", "<e>", "ü")


@pytest.mark.parametrize("name", NAMES)
def test_code_spans_show_names_literally_on_one_line(name):
    span = as_code(name)
    fence = span[: len(span) - len(span.lstrip("`"))]
    inside = span.removeprefix(fence).removesuffix(fence)
    assert inside.strip() == " ".join(name.split())
    assert fence not in inside and "\n" not in span


def test_yaml_values_take_one_line():
    assert json.loads(as_yaml(list(NAMES))) == list(NAMES) and "\n" not in as_yaml(list(NAMES))


@pytest.mark.parametrize(
    ("signature", "arguments"),
    [
        ("texts: string (None,)", 'texts=tf.constant(["..."])'),
        (
            "questions: string (None,), contexts: string (None,)",
            'questions=tf.constant(["..."]), contexts=tf.constant(["..."])',
        ),
    ],
)
def test_usage_example_has_the_arguments_of_the_export(signature, arguments):
    report = {
        "title": "t",
        "description": "",
        "smoke": True,
        "score": "f1",
        "test": {"f1": {"value": 0.5, "low": 0.4, "high": 0.6}, "examples": 10},
        "model": {"preset": "hub:x", "weights": None, "reads": "texts", "parameters": 3},
        "stages": [],
        "data": {"source": "csv:x", "sizes": {"train": 1}, "class_names": [], "origin": {}},
        "export": {"path": "export", "needs": [], "signatures": {"serving_default": signature}},
        "command": "python",
        "environment": {"packages": {"keras": "3"}},
    }
    card = render_model_card(report, "question-answering")
    assert f"predict({arguments})" in card and "Smoke run" in card
    front = dict(line.split(": ", 1) for line in card.split("---\n")[1].splitlines())
    assert "## Usage" in card and "## Usage" not in render_model_card(
        {**report, "export": None}, "fill-mask"
    )
    assert json.loads(front["model-index"])[0]["results"][0]["metrics"][0]["value"] == 0.5
