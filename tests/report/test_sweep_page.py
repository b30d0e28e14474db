"""The page of trials: the results of every kind of plan, and that no name breaks it."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from report_pages import HOSTILE, Page

from sft_keras.report.sweep_page import write_sweep_page

RATE = "stages.head.learning_rate"
FAILURE = "The loss became nan.\nTry a lower rate."


def trial(name: str, number: int, *scores: float) -> dict[str, Any]:
    """Return a trial with its scores on validation and test; without scores, a failed trial."""
    facts = {"name": name, "folder": f"trials/{number:03d}", "seconds": 1.5, "failure": None}
    if not scores:
        return {**facts, "failure": FAILURE}
    return {
        **facts,
        "metric": "accuracy",
        "scores": dict(zip(("validation", "test"), scores)),
        "loss": 0.5 + 0.01 * number,
        "learning_rates": {"head": 1e-3, "top": 1e-4},
        "epochs": {"head": 4, "top": 6},
        "frozen_blocks": ["read from memory"] * 2,
        "parameters": 1_000_000 + number,
    }


def point(overrides: Sequence[str], trials: Sequence[dict[str, Any]], name: str | None = None):
    finished = [entry for entry in trials if entry["failure"] is None]

    def spread(values: Sequence[float]) -> dict[str, float]:
        return {"mean": statistics.fmean(values), "low": min(values), "high": max(values)}

    return {
        "name": name or ", ".join(overrides),
        "overrides": list(overrides),
        "scores": {
            split: spread([entry["scores"][split] for entry in finished])
            for split in (finished[0]["scores"] if finished else ())
        },
        "loss": spread([entry["loss"] for entry in finished]) if finished else None,
        "seconds": 1.5 * len(trials),
        "failures": [entry["failure"] for entry in trials if entry["failure"]],
        "repeats": list(trials),
    }


def report(kind: str, points: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    scored = [index for index, entry in enumerate(points) if entry["scores"]]
    best = max(scored, key=lambda i: points[i]["scores"]["validation"]["mean"], default=None)
    return {
        "format": 1,
        "smoke": False,
        "kind": kind,
        "title": "quickstart",
        "description": "A small network on handwritten digits.",
        "command": "python -m sft_keras.run --recipe=quickstart --something",
        "started": "2026-01-01T12:00:00+00:00",
        "seconds": 70.1,
        "planned": sum(len(entry["repeats"]) for entry in points),
        "seeds": [0],
        "folds": None,
        "metric": None if best is None else "accuracy",
        "best": best,
        "run_best": None if best is None else "python -m sft_keras.run --recipe=quickstart --best",
        "points": list(points),
        "data": {
            "source": "digits",
            "class_names": [str(number) for number in range(10)],
            "sizes": {"train": 1437, "validation": 180, "test": 181},
            "counts": {},
            "origin": {},
        },
        "recipe": {
            "data": {"source": "digits", "batch_size": 32},
            "backbone": {"preset": "bundled:efficientnet_lite0", "weights": "imagenet"},
            "stages": [{"name": "head", "epochs": 4}, {"name": "top", "epochs": 6}],
        },
        "environment": {
            "python": "3.11.7",
            "platform": "Linux-6.1",
            "cpu_cores": 2,
            "accelerators": [],
            "packages": {"keras": "3.15.1"},
        },
        **changes,
    }


def sweep(scores: dict[str, float | None], field: str = RATE, **changes: Any) -> dict[str, Any]:
    """Return a sweep over one field: {value: score, or None if it failed}."""
    points = [
        point([f"{field}={value}"], [trial("seed 0", number, *([] if score is None else [score]))])
        for number, (value, score) in enumerate(scores.items(), 1)
    ]
    return report("sweep", points, **changes)


def page_of(folder: Path, report: dict[str, Any]) -> Page:
    write_sweep_page(report, folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return Page(re.sub("</t[dh]>", r"\g<0> ", text))  # a space between cells


def words(page: Page) -> str:
    return " ".join(page.text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())


def table(page: Page, heading: str) -> str:
    """Return the text of the section with a heading."""
    return words(page).partition(heading)[2].partition("Reproduce")[0]


def dots(page: Page, colour: str = "validation") -> int:
    return len(re.findall(rf"<use [^>]*var\(--{colour}\)", page.source))


def test_sweep_lists_points_best_first_and_failure_reasons(tmp_path):
    scores = {"1e-4": 0.75, "1e-2": None, "1e-3": 0.9625, "3e-3": 0.9625}
    page = page_of(tmp_path, sweep(scores))
    rows = table(page, "Points, best first").partition("All 4 trials")[0]
    positions = [
        rows.index(row)
        for row in (
            "1e-3 best 96.2 % 0.5300",
            "3e-3 96.2 % 0.5400",
            "1e-4 75.0 % 0.5100",
            "1e-2 failed: The loss became nan. Try",
        )
    ]
    assert positions == sorted(positions)
    text = words(page)
    for expected in (
        "quickstart: a sweep over learning_rate",
        f"4 points of a sweep over {RATE}, each trained once, with seed 0; compared by",
        "1 437 training examples, 180 validation examples, 181 test examples, unseen by all trials",
        "Validation accuracy of the best of 3 96.2 %",
        "was selected on the validation split, so its validation score is optimistic",
        "python -m sft_keras.run --recipe=quickstart --best",
        "python -m sft_keras.run --recipe=quickstart --something",
        "1 min 10 s in total",
        "stages.top.epochs: 6",
        "keras 3.15.1",
        "trials/004",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("values", "scale"),
    [(("1e-4", "1e-3", "1e-2"), "log"), (("0", "0.1", "0.5"), "linear"), (("1", "20"), "linear")],
)
def test_numeric_field_is_an_axis_log_scaled_for_wide_ranges(tmp_path, monkeypatch, values, scale):
    figures = []
    target = "sft_keras.report.sweep_plot.as_svg"
    monkeypatch.setattr(target, lambda figure, *names: figures.append(figure) or "<svg/>")
    page_of(tmp_path, sweep(dict(zip(values, (0.5, 0.75, 0.6)))))
    (axes,) = figures[0].axes
    assert axes.get_xscale() == scale
    assert axes.get_xlabel() == RATE
    assert [float(label.get_text()) for label in axes.get_xticklabels()] == [*map(float, values)]


def test_numeric_points_are_dots_with_best_ringed_and_failed_crossed(tmp_path):
    page = page_of(tmp_path, sweep({"1": 0.5, "2": None, "3": 0.75, "4": None}))
    assert page.attributes("aria-label") == [f"Validation accuracy by {RATE}"]
    assert dots(page) == 3, "two points and the ring"
    # Ticks are drawn softly too: one at each value, and one at each of some shares.
    crosses = re.findall(r"<use [^>]*var\(--soft\)[^>]*stroke-width: 1.8", page.source)
    assert len(crosses) == 2
    assert "failed" in table(page, "Comparison").partition("Points")[0]
    assert "failed" not in words(page_of(tmp_path, sweep({"1": 0.5, "3": 0.75})))


@pytest.mark.parametrize("values", [("adam", "sgd"), ("auto", "1e-3"), ("nan", "1"), ("none", "2")])
def test_categorical_field_has_one_row_of_dots_per_value(tmp_path, values):
    page = page_of(tmp_path, sweep(dict(zip(values, (0.5, 0.75))), "stages.top.optimizer"))
    assert page.attributes("aria-label") == ["Validation accuracy by row"]
    assert dots(page) == 3
    for value in values:
        assert f">{value}</text>" in page.source


def test_grid_has_one_column_per_field(tmp_path):
    points = [
        point([f"{RATE}={rate}", f"task.dropout={share}"], [trial("seed 0", 1, score)])
        for rate, share, score in (
            ("1e-3", "0.1", 0.5),
            ("1e-3", "0.5", 0.75),
            ("1e-2", "0.1", 0.6),
        )
    ]
    page = page_of(tmp_path, report("sweep", points))
    rows = table(page, "Points, best first")
    assert rows.strip().startswith(f"{RATE} task.dropout validation accuracy")
    assert "1e-3 best 0.5 75.0 %" in rows
    assert f"rows: {RATE}, task.dropout" in words(page)
    assert ">1e-3, 0.5</text>" in page.source
    assert "a sweep over learning_rate, dropout" in words(page)


def test_single_scored_point_is_not_called_best_of_several(tmp_path):
    text = words(page_of(tmp_path, sweep({"1e-4": 0.75, "1e-2": None})))
    assert "Validation accuracy 75.0 %" in text
    assert "Train it to measure it on the test split" in text
    assert "optimistic" not in text


def test_seeds_of_a_sweep_give_mean_range_and_failures(tmp_path):
    points = [
        point(
            [f"{RATE}=1e-3"],
            [trial("seed 0", 1, 0.9), trial("seed 1", 2), trial("seed 2", 3, 0.95)],
        ),
        point([f"{RATE}=1e-2"], [trial(f"seed {n}", 4 + n, 0.5) for n in range(3)]),
    ]
    page = page_of(tmp_path, report("sweep", points, seeds=[0, 1, 2]))
    text = words(page)
    assert "trained with 3 seeds (0, 1, 2) on the same splits; compared by" in text
    assert "1e-3 best 92.5 % 90.0 to 95.0 % 0.5200 4.5 s" in text
    assert "1 of 3 trials failed: The loss became nan." in text
    assert "validation accuracy, mean and range of 3 seeds" in text
    trials = text.partition("All 6 trials")[2]
    assert "1e-3 seed 2 95.0 % 0.5300 4 + 6 read from memory 1.5 s trials/003" in trials


def test_backbones_show_parameters_and_failures(tmp_path):
    points = [
        point([], [trial("seed 0", 1, 0.5)], "bundled:efficientnet_lite0"),
        point(["backbone.preset=keras:vgg16"], [trial("seed 0", 2)], "keras:vgg16"),
        point(["backbone.preset=keras:mobilenet"], [trial("seed 0", 3, 0.75)], "keras:mobilenet"),
    ]
    page = page_of(tmp_path, report("backbones", points))
    rows = table(page, "Backbones, best first")
    assert "keras:mobilenet best 75.0 % 0.5300 1 000 003 1.5 s" in rows
    assert rows.index("bundled:efficientnet_lite0 50.0 %") < rows.index("keras:vgg16 failed: The")
    assert "3 frozen backbones, each with a new head trained as in stage head" in words(page)
    assert "Train it with all stages of the recipe to measure it" in words(page)
    assert ">keras:mobilenet</text>" in page.source
    assert ">keras:vgg16</text>" not in page.source


@pytest.mark.parametrize(
    ("changes", "expected_intro"),
    [
        ({"seeds": [0, 1, 2]}, "The recipe, trained with 3 seeds (0, 1, 2) on the same splits."),
        (
            {"folds": 3},
            "The recipe, trained on 3 stratified folds of the training and validation examples",
        ),
    ],
)
def test_repeats_give_mean_and_range_on_validation_and_test(tmp_path, changes, expected_intro):
    name = "fold" if "folds" in changes else "seed"
    trials = [trial(f"{name} {n}", n + 1, 0.9 + 0.02 * n, 0.5 + 0.1 * n) for n in range(3)]
    page = page_of(tmp_path, report("repeats", [point([], trials, "recipe")], **changes))
    text = words(page)
    for expected in (
        expected_intro,
        f"Test accuracy, mean of 3 {name}s 60.0 % range 50.0 to 70.0 %",
        "validation 92.0 % 90.0 % 94.0 % test 60.0 % 50.0 % 70.0 %",
        f"{name} 1 92.0 % 60.0 % 0.5200 4 + 6 read from memory 1.5 s",
    ):
        assert expected in text, expected
    assert "optimistic" not in text
    assert page.attributes("aria-label") == ["accuracy by trial"]
    assert (dots(page), dots(page, "good")) == (3, 3)
    assert ("1 617 examples in the folds" in text) == ("folds" in changes)


def test_failed_repeat_is_excluded_from_the_mean_and_shown(tmp_path):
    trials = [trial("seed 0", 1, 0.75, 0.5), trial("seed 1", 2)]
    page = page_of(tmp_path, report("repeats", [point([], trials, "recipe")], seeds=[0, 1]))
    assert "Test accuracy, mean of 1 seed 50.0 %" in words(page)
    assert "seed 1 failed: The loss became nan." in words(page)


def test_stopped_or_entirely_failed_plans_are_marked(tmp_path):
    stopped = words(page_of(tmp_path / "a", sweep({"1": 0.5}, planned=7)))
    assert "Stopped after 1 of 7 trials." in stopped
    failed = page_of(tmp_path / "b", sweep({"1": None, "2": None}))
    assert "No trial finished." in words(failed)
    assert "Stopped" not in words(failed)
    assert "None" not in words(failed)
    assert not failed.attributes("aria-label"), "there is nothing to draw"
    repeats = report("repeats", [point([], [trial("seed 0", 1)], "recipe")], seeds=[0, 1])
    assert "seed 0 failed: The loss became nan." in words(page_of(tmp_path / "c", repeats))


def test_long_plans_are_plotted_in_part_and_listed_in_full(tmp_path):
    scores = {f"value{number}": 0.5 + number / 200 for number in range(60)}
    page = page_of(tmp_path, sweep(scores, "task.fit"))
    assert dots(page) == 41, "the best forty and the ring"
    assert "The best 40; the other 20 are in the table." in words(page)
    assert ">value59</text>" in page.source and ">value0</text>" not in page.source
    for value in scores:
        assert f"{value} " in table(page, "Points, best first")


def test_hostile_names_are_escaped_everywhere(tmp_path):
    for number, name in enumerate(HOSTILE):
        hostile = sweep({name: 0.5, f"{name}2": None}, f"stages.{name}.fit")
        hostile |= {"title": name, "description": name, "command": name, "run_best": name}
        hostile["metric"] = "accuracy"
        hostile["points"][1]["failures"] = [name]
        hostile["data"] |= {"source": name}
        hostile["recipe"] |= {name: name}
        page = page_of(tmp_path / str(number), hostile)
        assert "script" not in {tag for tag, _ in page.elements}
        assert not any(key.startswith("on") for _, values in page.elements for key in values)
        assert "49" not in page.text.partition("a & b")[2][:30], "names must not run as templates"
        assert page.text.count(name) >= 8


def test_page_is_self_contained_and_its_ids_are_unique(tmp_path):
    page = page_of(tmp_path, sweep({"1e-4": 0.5, "1e-2": 0.75, "1": None}))
    assert not re.search(r"(https?:)?//[a-z]", page.source), "an address in the page"
    tags = [tag for tag, _ in page.elements]
    assert not {"link", "script", "iframe", "object"} & set(tags)
    assert tags.count("style") == 1
    assert any(one.startswith("default-src 'none';") for one in page.attributes("content"))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(#([^)]*)\)", page.source)
    references += [value[1:] for value in page.attributes("href") if value.startswith("#")]
    assert references and set(references) <= set(ids)


def test_smoke_banner_comes_first_and_only_in_smoke_runs(tmp_path):
    smoke = page_of(tmp_path / "smoke", sweep({"1": 0.5}, smoke=True))
    body = smoke.source.partition("<body>")[2]
    assert re.sub("<[^>]*>", "", body).strip().startswith("Smoke run: synthetic data, random")
    assert "(smoke run)" in smoke.source.partition("<title>")[2].partition("</title>")[0]
    assert "Smoke run" not in page_of(tmp_path / "real", sweep({"1": 0.5})).source


def test_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    write_sweep_page(sweep({"1": 0.5}), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert list(before) == ["report.html"]

    def full_disk(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_sweep_page(sweep({"1": 0.75}), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_page_imports_neither_tensorflow_nor_pyplot():
    program = (
        "import sys, sft_keras.report.sweep_page; "
        "print([name for name in ('tensorflow', 'keras', 'matplotlib.pyplot') "
        "if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
