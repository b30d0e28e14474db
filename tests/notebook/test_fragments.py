"""What a notebook shows of a run: that it is there, and that no name or text spoils it."""

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
from sft_keras.notebook import fragments as shown
from sft_keras.notebook import widget as asking
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


def test_a_result_is_a_line_and_in_a_notebook_its_score_and_stages():
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


def test_a_worker_without_a_report_is_a_line_everywhere():
    result = Result({}, {}, None, {}, Path("runs/x"), Path("runs/x/export/1"))
    assert repr(result) == "Result('runs/x')"
    assert result._repr_html_() is None


def test_no_name_and_no_text_spoils_a_part(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(png(0))
    result = result_of(make_report(list(HOSTILE), notes=[HOSTILE[1]]), folder=HOSTILE[0])
    classes = dict.fromkeys(HOSTILE, 1 / len(HOSTILE))
    parts = [
        result._repr_html_(),
        notebook.mistakes(result).html,
        notebook.table(HOSTILE, [HOSTILE]).html,
        notebook.pictures([file] * len(HOSTILE), HOSTILE).html,
        shown.answers([Prediction(HOSTILE[0], HOSTILE[1], classes)], False).html,
        shown.answers([Prediction(HOSTILE[1], error=HOSTILE[0])], True).html,
    ]
    for part in parts:
        page = Page(part)
        names = {name for name, _ in page.elements}
        assert "script" not in names
        assert not any("onerror" in attributes for _, attributes in page.elements)
    assert all(name in Page(parts[2]).text for name in HOSTILE)


def test_curves_are_drawn_for_each_figure():
    page = Page(notebook.curves(result_of(make_report())).html)
    labels = [attributes.get("aria-label") for name, attributes in page.elements if name == "svg"]
    assert labels == ["Loss by epoch", "Accuracy by epoch", "Learning rate by epoch"]
    assert "next stage" in page.text


def test_mistakes_are_the_first_ones_and_the_report_has_the_others():
    result = result_of(make_report(mistakes=5))
    page = Page(notebook.mistakes(result, most=2).html)
    shown_pictures = [values["src"] for name, values in page.elements if name == "img"]
    assert len(shown_pictures) == 2 and "img/1.jpg" in page.text and "img/2.jpg" not in page.text
    assert "the report shows 5" in page.text
    none = notebook.mistakes(result_of(make_report(mistakes=0)))
    assert "every test example was predicted correctly" in none.html


def test_answers_of_each_kind_are_said():
    entity = Entity("PER", "Ada", 0, 3, 0.9)
    found = [
        Prediction("a", "x", {"y": 0.2, "x": 0.7, "z": 0.06, "w": 0.04}),
        Prediction("b", value=12.5),
        Prediction("c", probabilities={"u": 0.9, "v": 0.8}, labels=("u", "v")),
        Prediction("Ada lived.", entities=(entity,)),
        Prediction("d", entities=()),
        Prediction("e", error="cannot be read"),
    ]
    text = " ".join(Page(shown.answers(found, False).html).text.split())
    for said in ("70.0", "12.5", "Ada PER 90.0", "no entities", "cannot be read"):
        assert said in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "4.0" not in text, "the first three classes are enough"
    chosen = [name for name, values in Page(shown.answers(found[2:3], False).html).elements]
    assert chosen.count("strong") == 2


def test_large_pictures_are_made_small_and_what_is_none_is_said(tmp_path):
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


def test_the_report_stands_in_a_frame_as_it_is(tmp_path):
    report = '<!doctype html><p title="x">&amp;</p>'
    (tmp_path / "report.html").write_text(report)
    page = Page(notebook.report(result_of(make_report(), folder=str(tmp_path))).html)
    (frame,) = [values for name, values in page.elements if name == "iframe"]
    assert frame["srcdoc"] == report


class Widget:
    """As far as a widget of ipywidgets is used."""

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
def test_uploaded_files_are_asked_about_and_stay_in_a_folder_of_their_own(value):
    asked = []

    def show(paths):
        asked.extend((path, path.read_bytes()) for path in paths)

    asking._button(WIDGETS, show).handler({"new": value})
    ((path, content),) = asked
    assert path.name == "a.png" and content == b"1" and path.parent != Path("/etc")
    assert not path.exists(), "what was uploaded is not left behind"


def test_a_text_is_asked_about_and_nothing_is_not():
    asked = []
    line = asking._line(WIDGETS, asked.append)
    line.handler({"new": "a text"})
    line.handler({"new": ""})
    assert asked == [["a text"]]


@pytest.mark.parametrize(("kind", "said"), [("images", "photo.jpg"), ("texts", "A text.")])
def test_without_widgets_it_is_said_how_to_ask(kind, said, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    notebook.ask(result_of(make_report(), kind))
    assert said in capsys.readouterr().out


def test_a_passing_line_is_shown_in_a_notebook_and_written_over(monkeypatch):
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


def test_it_is_imported_without_tensorflow():
    source = "import sys, sft_keras.notebook; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source]).returncode == 0
