"""What a notebook displays of a run: its contents, and that no name or text breaks it."""

import importlib.util
import io
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from PIL import Image
from report_pages import HOSTILE, Page, make_report, png

from sft_keras import notebook
from sft_keras.core.errors import DataError
from sft_keras.notebook import fragments, widget
from sft_keras.runs import console
from sft_keras.runs.result import Result
from sft_keras.tasks.predictions import Entity, Prediction

EXPORTS = {"images": "image_bytes: string (None,)", "texts": "texts: string (None,)"}


def result_of(report, kind="images", folder="runs/x"):
    signatures = {"serving_default": EXPORTS[kind]}
    report = report | {"export": report["export"] | {"signatures": signatures}}
    pictures = tuple(png(number) for number in range(len(report["mistakes"])))
    return Result(
        report["test"], {}, None, report, Path(folder), Path(folder, "export/1"), pictures
    )


def test_result_is_one_line_and_in_a_notebook_score_and_stages():
    result = result_of(make_report())
    score = result.metrics["accuracy"]
    assert repr(result) == (
        f"Result('runs/x', test accuracy {score['value']:.4f}, "
        f"95 % interval {score['low']:.4f} to {score['high']:.4f})"
    )
    page = Page(result._repr_html_())
    for said in ("96.8 %", "head only", "head and top block", "93.0 %", "97.1 %", "report.html"):
        assert said in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Smoke run" not in page.text
    assert "Smoke run" in Page(result_of(make_report(smoke=True))._repr_html_()).text


def test_result_of_a_worker_without_a_report():
    result = Result({}, {}, None, {}, Path("runs/x"), Path("runs/x/export/1"))
    assert repr(result) == "Result('runs/x')"
    assert result._repr_html_() is None


def test_hostile_names_are_escaped_everywhere(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(png(0))
    result = result_of(make_report(list(HOSTILE), notes=[HOSTILE[1]]), folder=HOSTILE[0])
    classes = dict.fromkeys(HOSTILE, 1 / len(HOSTILE))
    parts = [
        result._repr_html_(),
        notebook.mistakes(result).html,
        notebook.table(HOSTILE, [HOSTILE]).html,
        notebook.pictures([file] * len(HOSTILE), HOSTILE).html,
        fragments.render_predictions([Prediction(HOSTILE[0], HOSTILE[1], classes)], False).html,
        fragments.render_predictions([Prediction(HOSTILE[1], error=HOSTILE[0])], True).html,
    ]
    for part in parts:
        page = Page(part)
        names = {name for name, _ in page.elements}
        assert "script" not in names
        assert not any("onerror" in attributes for _, attributes in page.elements)
    assert all(name in Page(parts[2]).text for name in HOSTILE)


def test_curves_of_every_metric():
    page = Page(notebook.curves(result_of(make_report())).html)
    labels = [attributes.get("aria-label") for name, attributes in page.elements if name == "svg"]
    assert labels == ["Loss by epoch", "Accuracy by epoch", "Learning rate by epoch"]
    assert "next stage" in page.text


def test_mistakes_are_limited_and_the_report_is_mentioned():
    result = result_of(make_report(mistakes=5))
    page = Page(notebook.mistakes(result, most=2).html)
    shown_pictures = [values["src"] for name, values in page.elements if name == "img"]
    assert len(shown_pictures) == 2 and "img/1.jpg" in page.text and "img/2.jpg" not in page.text
    assert "the report shows 5" in page.text
    none = notebook.mistakes(result_of(make_report(mistakes=0)))
    assert "every test example was predicted correctly" in none.html


def test_every_kind_of_prediction_is_rendered():
    entity = Entity("PER", "Ada", 0, 3, 0.9)
    found = [
        Prediction("a", "x", {"y": 0.2, "x": 0.7, "z": 0.06, "w": 0.04}),
        Prediction("b", value=12.5),
        Prediction("c", probabilities={"u": 0.9, "v": 0.8}, labels=("u", "v")),
        Prediction("Ada lived.", entities=(entity,)),
        Prediction("d", entities=()),
        Prediction("e", error="cannot be read"),
    ]
    text = " ".join(Page(fragments.render_predictions(found, False).html).text.split())
    for said in ("70.0", "12.5", "Ada PER 90.0", "no entities", "cannot be read"):
        assert said in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "4.0" not in text, "the first three classes are enough"
    chosen = [
        name for name, values in Page(fragments.render_predictions(found[2:3], False).html).elements
    ]
    assert chosen.count("strong") == 2


def test_images_become_thumbnails_and_broken_ones_are_reported(tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(png(0, size=900))
    (source,) = [
        values["src"]
        for name, values in Page(notebook.pictures([large], ["a"]).html).elements
        if name == "img"
    ]
    with importlib.import_module("urllib.request").urlopen(source) as file:
        assert Image.open(io.BytesIO(file.read())).size == (160, 160)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        notebook.pictures([broken], ["a"])


def test_report_is_framed_unchanged(tmp_path):
    report = '<!doctype html><p title="x">&amp;</p>'
    (tmp_path / "report.html").write_text(report)
    page = Page(notebook.report(result_of(make_report(), folder=str(tmp_path))).html)
    (frame,) = [values for name, values in page.elements if name == "iframe"]
    assert frame["srcdoc"] == report


class Widget:
    """The subset of an ipywidgets widget that is used."""

    def __init__(self, **settings):
        self.handler = None

    def observe(self, handler, names):
        assert names == "value"
        self.handler = handler


WIDGETS = types.SimpleNamespace(FileUpload=Widget, Text=Widget)


@pytest.mark.parametrize(
    "value",
    [
        {"../a.png": {"content": b"1"}},  # ipywidgets before 8
        ({"name": "/etc/a.png", "content": memoryview(b"1")},),
    ],
)
def test_uploads_are_predicted_from_a_temporary_folder(value):
    uploads = []

    def show(paths):
        uploads.extend((path, path.read_bytes()) for path in paths)

    widget._upload_button(WIDGETS, show).handler({"new": value})
    ((path, content),) = uploads
    assert path.name == "a.png" and content == b"1" and path.parent != Path("/etc")
    assert not path.exists(), "uploads must be deleted"


def test_texts_are_predicted_unless_empty():
    texts = []
    field = widget._text_field(WIDGETS, texts.append)
    field.handler({"new": "a text"})
    field.handler({"new": ""})
    assert texts == [["a text"]]


@pytest.mark.parametrize(("kind", "said"), [("images", "photo.jpg"), ("texts", "A text.")])
def test_without_ipywidgets_python_usage_is_printed(kind, said, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    notebook.ask(result_of(make_report(), kind))
    assert said in capsys.readouterr().out


def test_progress_lines_are_overwritten(monkeypatch):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(console, "_progress_line", console._ProgressLine())
    console.print_line("data", "plain")
    console.print_progress("step 1 of 200", "plain")
    console.print_progress("too soon after it", "plain")
    console.print_line("epoch 1", "plain")
    console.print_progress("nothing of this", "quiet")
    (first, line, rest), screen = stream.getvalue().split("\n"), ""
    for piece in line.split("\r"):  # what JupyterLab and Colab make of it
        screen = piece + screen[len(piece) :]
    assert screen.rstrip() == "epoch 1" and first == "data" and rest == ""
    assert "step 1 of 200" in line and not re.search("nothing|too soon", line)


def test_import_does_not_load_tensorflow():
    source = "import sys, sft_keras.notebook; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source]).returncode == 0
