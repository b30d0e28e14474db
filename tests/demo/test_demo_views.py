"""What the page displays for each kind of prediction."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("gradio")

import gradio as gr

from sft_keras.demo.views import VIEWS, split_spans
from sft_keras.tasks.predictions import Entity, Prediction
from sft_keras.tasks.question_answering.predictions import AnswerPrediction

HOSTILE = "<img src=x onerror=alert(1)> ${value} {{1}}"


def render(kind, prediction, text=""):
    """Return the remark, and the values that browsers receive for each component."""
    view = VIEWS[kind]()
    with gr.Blocks(analytics_enabled=False):
        components = view.components()
    values = view.values(prediction, text)
    plain = [each.postprocess(value) for each, value in zip(components, values, strict=True)]
    return view.remark(prediction), [
        each.model_dump() if hasattr(each, "model_dump") else each for each in plain
    ]


def bars(label):
    return [(each["label"], each["confidence"]) for each in label["confidences"]]


def test_classes_are_sorted_and_limited():
    every = {f"class {n}": n / 15 for n in range(6)} | {HOSTILE: 0.0}
    remark, (label,) = render("class_scores", Prediction("x", "class 5", every))
    assert label["label"] == "class 5"
    assert bars(label) == [(f"class {n}", n / 15) for n in (5, 4, 3, 2, 1)]
    assert remark == "The 5 most probable of 7 classes."
    remark, (label,) = render("class_scores", Prediction("x", "b", {"a": 0.2, "b": 0.8}))
    assert bars(label) == [("b", 0.8), ("a", 0.2)] and remark == ""


def test_only_labels_that_apply_are_shown():
    every = {"a": 0.45, "b": 0.1, HOSTILE: 0.9}
    found = Prediction("x", probabilities=every, labels=(HOSTILE, "a"))
    remark, (label,) = render("labels", found)
    assert bars(label) == [(HOSTILE, 0.9), ("a", 0.45)] and remark == "2 of 3 labels."
    remark, (label,) = render("labels", Prediction("x", probabilities=every, labels=()))
    assert not label
    assert remark == f"No label applies. The most probable is {HOSTILE}, with 90.0%."


def test_numbers():
    assert render("number", Prediction("x", value=-1234.5678))[1][0]["label"] == "-1234.57"


def test_entities_are_marked_and_listed():
    text = f"Ada\n{HOSTILE}"
    found = (Entity("person", "Ada", 0, 3, 0.5), Entity(HOSTILE, HOSTILE, 4, len(text), 0.25))
    remark, (pieces, table) = render("marked_text", Prediction(text, entities=found), text)
    assert [(each["token"], each["class_or_confidence"]) for each in pieces] == [
        ("Ada", "person"),
        ("\n", None),
        (HOSTILE, HOSTILE),
    ]
    assert "<td>Ada</td><td>person</td><td>50.0%</td>" in table and "<img" not in table
    assert remark == ""
    remark, (pieces, table) = render("marked_text", Prediction(text, entities=()), text)
    assert [each["token"] for each in pieces] == [text]
    assert (table, remark) == ("", "No entities found.")


def test_answers_are_marked_in_their_passage():
    passage = "Ada \N{GRINNING FACE} wrote it."
    found = AnswerPrediction("Who?\t" + passage, "wrote", {"wrote": 0.7}, start=6, end=11)
    remark, (label, pieces) = render("answer", found, passage)
    assert bars(label) == [("wrote", 0.7)] and remark == ""
    assert [each["token"] for each in pieces if each["class_or_confidence"]] == ["wrote"]
    remark, (label, pieces) = render("answer", AnswerPrediction("x", "", {"": 0.6}), passage)
    assert bars(label) == [("(no answer)", 0.6)]
    assert remark == "The model finds no answer in the passage."
    assert [each["class_or_confidence"] for each in pieces] == [None]


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=6))
def test_pieces_join_to_the_text(text, cuts):
    cuts = sorted(min(each, len(text)) for each in cuts)
    spans = [(start, end, "x") for start, end in zip(cuts[::2], cuts[1::2])]
    pieces = split_spans(text, spans)
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, label in pieces if label] == [
        text[start:end] for start, end, _ in spans if start < end
    ]
