"""The report of a run: its contents, and that no name, number or failure breaks it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from report_pages import (
    HOSTILE,
    Page,
    example_rows,
    make_report,
    rate_test,
    report_images,
    stage,
)

from sft_keras.report import write_report


@pytest.fixture
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the learning curves, which take most of the time, in tests of other parts."""
    monkeypatch.setattr("sft_keras.report.run_page.learning_curves", lambda stages: [])


def plot_source(page: Page, label: str) -> str:
    """Return the SVG source of the plot with the accessible name `label`."""
    return page.source.partition(f'aria-label="{label}"')[2].partition("</svg>")[0]


def count_markers(page: Page) -> int:
    """Return the number of markers in the plot of the loss, rings included."""
    return len(
        re.findall(r"<use [^>]*var\(--(train|validation)\)", plot_source(page, "Loss by epoch"))
    )


def written_page(folder: Path, report: dict) -> Page:
    write_report(report, report_images(report), folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_report_json_round_trip(without_curves, tmp_path):
    report = make_report()
    write_report(report, report_images(report), tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == report
    assert list(json.loads(text))[:3] == ["format", "smoke", "title"]
    assert len(text.splitlines()) < 600, "a confusion matrix must not take a line a number"


def test_json_encodes_non_finite_as_null_and_numpy_as_plain_values(tmp_path):
    report = make_report(notes=[])
    report["test"]["loss"] = float("nan")
    report["stages"][0]["history"]["loss"][0] = float("inf")
    report["stages"][0]["history"]["val_loss"] = np.linspace(1, 0, 8, dtype=np.float32)
    report["test"]["accuracy"]["value"] = np.float64(0.5)
    page = written_page(tmp_path, report)

    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert read["test"]["loss"] is None
    assert read["stages"][0]["history"]["loss"][0] is None
    assert len(read["stages"][0]["history"]["val_loss"]) == 8
    assert not re.search(r"\b(nan|inf)\b", page.text, re.IGNORECASE)


def test_hostile_names_are_escaped_everywhere(tmp_path):
    names = list(HOSTILE)
    report = make_report(names, mistakes=6)
    hostile = HOSTILE[0]
    report |= {"title": hostile, "description": hostile, "command": hostile, "notes": [hostile]}
    report["recipe"] |= {hostile: hostile}
    report["stages"][1] |= {"name": hostile, "rate_test": rate_test()}
    report["stages"][0]["stopped"] = report["stages"][0]["frozen_blocks"] = hostile
    report["mistakes"][0]["id"] = hostile
    report["model"]["blocks"][0]["name"] = hostile
    report["export"]["signatures"] |= {hostile: hostile}
    page = written_page(tmp_path, report)
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags
    assert not any(name.startswith("on") for _, values in page.elements for name in values)
    assert "49" not in page.text.partition("a & b")[2][:30], "names must not run as templates"
    for name in HOSTILE:
        assert page.text.count(name) >= 4


@pytest.mark.parametrize("num_classes", [2, pytest.param(20, marks=pytest.mark.slow), 60])
def test_page_is_self_contained(tmp_path, num_classes):
    page = written_page(tmp_path, make_report([f"class {n}" for n in range(num_classes)]))
    for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
        for value in page.attributes(name):
            assert value.startswith(("data:", "#")), value
    source = re.sub(r"data:image/png;base64,[\w+/=\s]*", "", page.source)
    assert not re.search(r"(https?:)?//[a-z]", source), "an address in the page"
    assert not re.search(r"@import|url\((?!#)", source)
    tags = [tag for tag, _ in page.elements]
    assert not {"link", "script", "iframe", "object"} & set(tags)
    assert tags.count("style") == 1, "a plot's own style would apply to the whole page"
    assert any(one.startswith("default-src 'none';") for one in page.attributes("content"))


@pytest.mark.parametrize("num_classes", [2, pytest.param(20, marks=pytest.mark.slow), 60])
def test_ids_are_unique_and_references_resolve(tmp_path, num_classes):
    report = make_report([f"class {n}" for n in range(num_classes)])
    for entry in report["stages"]:
        entry["rate_test"] = rate_test()
    page = written_page(tmp_path, report)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(#([^)]*)\)", page.source)
    references += [value[1:] for value in page.attributes("href") if value.startswith("#")]
    assert references
    assert set(references) <= set(ids)


def test_smoke_banner_comes_first_and_only_in_smoke_runs(without_curves, tmp_path):
    smoke = written_page(tmp_path / "smoke", make_report(smoke=True))
    body = smoke.source.partition("<body>")[2]
    assert re.sub("<[^>]*>", "", body).strip().startswith("Smoke run: synthetic data, random")
    assert "(smoke run)" in smoke.source.partition("<title>")[2].partition("</title>")[0]
    real = written_page(tmp_path / "real", make_report())
    assert "Smoke run" not in real.source


def test_200_classes_are_listed_including_one_without_support(without_curves, tmp_path):
    names = [f"{HOSTILE[n % len(HOSTILE)]} no. {n}." for n in range(200)]
    report = make_report(names)
    report["test"]["per_class"][7] |= {"support": 0, "precision": None, "recall": None, "f1": None}
    report["test"]["confusion_matrix"][7] = [0] * 200
    page = written_page(tmp_path, report)
    for name in names:
        assert page.text.count(name) >= 2, "in the table of classes and in that of the data"
    assert len(page.source) < 1_000_000


def test_classes_are_sorted_by_f1_with_untested_ones_last(without_curves, tmp_path):
    report = make_report(["good", "bad", "unseen"], mistakes=0)
    for one, f1, support in zip(report["test"]["per_class"], (0.9, 0.2, 0.0), (5, 5, 0)):
        one |= {"f1": f1, "support": support}
    page = written_page(tmp_path, report)
    table = page.text.partition("Per-class metrics")[2].partition("macro average")[0]
    assert table.index("bad") < table.index("good") < table.index("unseen")


def test_one_epoch_one_stage_two_classes(tmp_path):
    names = ["cat", "dog"]
    page = written_page(tmp_path, make_report(names, stages=[stage("head", 0, 1, 0.9, names)]))
    assert count_markers(page) == 3, "training, validation and the ring"
    assert '<td class="hit"' in page.source


def test_curves_concatenate_stages_and_leave_gaps(tmp_path):
    report = make_report()
    for values in report["stages"][0]["history"].values():
        values[2] = None
    report["stages"][0]["name"] = "$x_1$ <head>"
    report["stages"][1]["best_epoch"] = None
    page = written_page(tmp_path, report)
    assert page.attributes("aria-label") == [
        "Loss by epoch",
        "Accuracy by epoch",
        "Learning rate by epoch",
    ]
    curve = plot_source(page, "Loss by epoch")
    assert ">$x_1$ &lt;head&gt;<" in curve and ">top<" in curve
    assert "stroke-dasharray" in curve, "the boundary between the stages"
    assert len(re.findall(r' d="M[^"]*M[^"]*L', curve)) == 2, "training and validation, each torn"


def test_range_tests_are_plotted_and_explained(without_curves, tmp_path):
    report = make_report()
    without = written_page(tmp_path / "without", report)
    assert "range test" not in without.text
    report["stages"][1]["rate_test"] = rate_test(90)
    page = written_page(tmp_path / "with", report)
    labels = [label for label in page.attributes("aria-label") if "range test" in label]
    assert labels == ["Loss by learning rate in the range test of top"]
    text = " ".join(page.text.replace("\N{NO-BREAK SPACE}", " ").split())
    assert "0.0013 was chosen, in the middle of 0.00025, where the loss began to fall" in text
    assert "and 0.0063. The test ended after 90 steps: the smoothed" in text
    curve = plot_source(page, labels[0])
    assert len(re.findall(r"<use [^>]*var\(--soft\)[^>]*opacity: 0.7", curve)) >= 87
    assert "var(--train)" in curve and "var(--validation)" in curve


def test_diverging_loss_does_not_hide_the_falling_range(without_curves, tmp_path):
    report = make_report()
    report["stages"][0]["rate_test"] = rate_test()
    page = written_page(tmp_path, report)
    curve = plot_source(page, "Loss by learning rate in the range test of head")
    axis = [float(tick) for tick in re.findall(r">(\d+\.\d+)</text>", curve)]
    assert 2.0 <= max(axis) < 3.0


def test_epochs_have_markers_in_short_runs_and_at_gaps(tmp_path):
    report = make_report(stages=[stage("head", 0, 40, 0.9, ["cat", "dog"])])
    short = written_page(tmp_path / "short", make_report())
    assert count_markers(short) == 2 * (8 + 5) + 2, "every epoch of a short run is one"
    report["stages"][0] |= {"best_epoch": None}
    assert count_markers(written_page(tmp_path / "whole", report)) == 0
    report["stages"].append(stage("top", 1, 1, 0.9, ["cat", "dog"]) | {"best_epoch": None})
    assert count_markers(written_page(tmp_path / "lone", report)) == 2, "training and validation"
    report["stages"][0]["history"]["loss"][1::2] = [None] * 20
    assert count_markers(written_page(tmp_path / "gaps", report)) == 22


def test_optional_parts_may_be_missing(tmp_path):
    report = make_report(mistakes=0, description="", export=None, notes=[])
    report["model"]["weights"] = None
    report["test"]["top_k"] = {}
    for entry in report["stages"]:
        entry |= {"best_epoch": None, "history": {}}
    page = written_page(tmp_path, report)
    for text in (
        "every test example was predicted correctly",
        "from random weights",
        "not exported",
    ):
        assert text in page.text


def test_numbers_are_formatted_for_people(without_curves, tmp_path):
    report = make_report()
    report["stages"][0]["audit"] |= {"frozen_identical": False, "unmoved_trainable": ["head/b"]}
    report["test"]["accuracy"] = {"value": 0.99996, "low": 0.9991, "high": 1.0}
    text = " ".join(written_page(tmp_path, report).text.split())
    for expected in (
        "Test accuracy 99.996 %",
        "95 % interval 99.9 to 100.0 %",
        "1 min 10 s in total",
        "stages.top.learning_rate: 1e-05",
        "stages.head.patience: null",
        "12 810 of 3 400 000",
        "NO (260 variables)",
        "Trainable but unchanged in head: head/b",
        "1 January 2026, 12:00 UTC",
        "created here: 10 % of train, stratified, seed 0",
    ):
        assert expected in text.replace("\N{NARROW NO-BREAK SPACE}", " "), expected


def test_mistakes_show_their_images_in_order(without_curves, tmp_path):
    report = make_report()
    page = written_page(tmp_path, report)
    images = [values for tag, values in page.elements if tag == "img"]
    assert [image["alt"] for image in images] == [one["id"] for one in report["mistakes"]]
    files = [base64.b64decode(image["src"].partition("base64,")[2]) for image in images]
    assert files == report_images(report)
    assert all(image["width"] == "8" and image["class"] == "tiny" for image in images)


def test_least_certain_examples_share_images_with_mistakes(without_curves, tmp_path):
    report = make_report()
    names = report["data"]["class_names"]
    unsure = {**example_rows(names, 4)[3], "second": names[3], "second_probability": 0.4}
    report["uncertain"] = [unsure | {"id": "a"}, unsure | {"id": "b", "predicted": names[3]}]
    page = written_page(tmp_path, report)
    *_, first, last = [values for tag, values in page.elements if tag == "img"]
    assert (first["alt"], last["alt"]) == ("a", "b")
    assert first["src"] == last["src"] and first["data-picture"] == "3"
    signs = re.findall(r"[✗✓·] [^✗✓·]*", page.text.partition("Least certain")[2])
    assert [" ".join(sign.split()[:3]) for sign in signs[:2]] == ["✗ digit 4", "✓ digit 3"]


def test_check_findings_and_saved_time_are_shown(without_curves, tmp_path):
    report = make_report()
    for entry in report["stages"]:
        entry["frozen_pass"] = {"seconds": 5.0, "epoch_seconds": 4.0}
    page = written_page(tmp_path, report)
    # 8 + 5 epochs of 4 s, minus one pass of 5 s.
    assert re.search(r"saved about 47(\.0)?\ss", page.text)
    assert "found nothing: no duplicate" in page.text
    report["stages"][1]["frozen_pass"] = None
    report["checked"] = [{"what": "Same across splits: 2.", "spoils": True}]
    page = written_page(tmp_path, report)
    assert re.search(r"saved about 27(\.0)?\ss", page.text)
    assert "Invalidates the results. Same across splits: 2." in page.text
    assert "found nothing" not in page.text


def test_metrics_survive_when_the_page_fails(without_curves, tmp_path):
    report = make_report()
    with pytest.raises(ValueError, match=r"'img/3.jpg' refers to image 3, .* 3 images"):
        write_report(report, report_images(report)[:3], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(ValueError, match=r"'img/0.jpg': .* begin with b'GIF89a"):
        write_report(report, [b"GIF89a" * 9] * 4, tmp_path)


def test_failed_write_keeps_the_old_report(without_curves, tmp_path, monkeypatch):
    report = make_report(mistakes=0)
    write_report(report, [], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("sft_keras.core.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(report | {"title": "another"}, [], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_file_names_that_are_not_unicode(without_curves, tmp_path):
    report = make_report()
    report["mistakes"][0]["id"] = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    page = written_page(tmp_path, report)
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read == report
    assert r"caf\udce9.jpg" in page.text


def test_rendering_is_deterministic(tmp_path):
    for folder in ("first", "second"):
        written_page(tmp_path / folder, make_report())
    for name in ("report.json", "report.html"):
        first, second = (tmp_path / folder / name for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_report_imports_neither_tensorflow_nor_pyplot():
    program = (
        "import sys, sft_keras.report; "
        "print([name for name in ('tensorflow', 'keras', 'matplotlib.pyplot') "
        "if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
