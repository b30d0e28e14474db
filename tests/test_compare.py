"""Runs side by side: which is better, on the same examples or not, and in what they differ."""

import json
import subprocess
import sys

import pytest

from sft_keras.compare import read_runs
from sft_keras.core.errors import RunFolderError
from sft_keras.report.comparison_page import best_first, differences, write_comparison


def figure(value):
    return {"accuracy": {"value": value, "low": value - 0.1, "high": value + 0.1}, "examples": 3}


def finished(folder, validation, test, ids=("a", "b"), score="accuracy", **fields):
    """Writes what a run leaves that is read here."""
    folder.mkdir()
    report = {
        "smoke": False,
        "score": score,
        "test": figure(test),
        "stages": [{"name": "head", "epochs_run": 2, "validation": figure(validation)}],
        "recipe": {"seed": 0, **fields},
        "model": {"preset": "keras:x"},
        "data": {"sizes": {"train": 10}},
        "seconds": {"total": 5.0},
    }
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "splits.json").write_text(json.dumps({"ids": {"test": list(ids)}}))
    return folder


def test_the_best_by_validation_comes_first_whatever_the_test_says(tmp_path):
    one = finished(tmp_path / "one", 0.5, 0.9, stages=[{"name": "head", "epochs": 3}])
    other = finished(tmp_path / "other", 0.6, 0.7, stages=[{"name": "head", "epochs": 4}])
    runs = read_runs([one, other])
    assert [run["run"] for run in best_first(runs)] == [str(other), str(one)]
    assert differences([run["recipe"] for run in runs]) == [("stages.head.epochs", ["3", "4"])]
    write_comparison(runs, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.index("60.0") < page.index("50.0") and "stages.head.epochs" in page
    assert "All runs were tested on the same" in page


def test_other_test_examples_are_said(tmp_path):
    runs = [
        finished(tmp_path / "one", 0.5, 0.9),
        finished(tmp_path / "other", 0.6, 0.7, ids=("a", "c"), cache="<b>off</b>"),
    ]
    write_comparison(read_runs(runs), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "not tested on the same examples" in page
    assert "&lt;b&gt;off" in page and "\N{EN DASH}" in page  # a field that one lacks


def test_what_is_no_finished_run_is_named(tmp_path):
    good = finished(tmp_path / "good", 0.5, 0.9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"empty.*FileNotFoundError"):
        read_runs([good, tmp_path / "empty"])
    (good / "report.json").write_text('{"score": 3}')
    with pytest.raises(RunFolderError, match="good"):
        read_runs([good])


def test_the_command_prints_a_line_each_and_wants_two(tmp_path):
    runs = [str(finished(tmp_path / name, 0.5, 0.9)) for name in ("a", "b")]
    command = [sys.executable, "-m", "sft_keras.compare", "--output=" + str(tmp_path / "c.html")]
    ran = subprocess.run([*command, *runs], capture_output=True, text=True, check=True)
    assert len(ran.stdout.splitlines()) == 3 and (tmp_path / "c.html").exists()
    ran = subprocess.run([*command, runs[0]], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "Pass at least two runs" in ran.stderr
