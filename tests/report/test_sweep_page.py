"""The page on trials: it holds the figures of every kind of plan, and no name spoils it."""

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
    """Returns a trial with its scores on validation and test; without any, one that failed."""
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
    done = [each for each in trials if each["failure"] is None]

    def spread(values: Sequence[float]) -> dict[str, float]:
        return {"mean": statistics.fmean(values), "low": min(values), "high": max(values)}

    return {
        "name": name or ", ".join(overrides),
        "overrides": list(overrides),
        "scores": {
            split: spread([each["scores"][split] for each in done])
            for split in (done[0]["scores"] if done else ())
        },
        "loss": spread([each["loss"] for each in done]) if done else None,
        "seconds": 1.5 * len(trials),
        "failures": [each["failure"] for each in trials if each["failure"]],
        "repeats": list(trials),
    }


def report(kind: str, points: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    scored = [index for index, each in enumerate(points) if each["scores"]]
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
        "planned": sum(len(each["repeats"]) for each in points),
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
    """Returns a sweep over one field: {value: score, or None if it failed}."""
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
    """Returns the text of the section with a heading."""
    return words(page).partition(heading)[2].partition("To run it again")[0]


def dots(page: Page, colour: str = "validation") -> int:
    return len(re.findall(rf"<use [^>]*var\(--{colour}\)", page.source))


def test_a_sweep_shows_its_points_best_first_and_what_stopped_the_others(tmp_path):
    scores = {"1e-4": 0.75, "1e-2": None, "1e-3": 0.9625, "3e-3": 0.9625}
    page = page_of(tmp_path, sweep(scores))
    rows = table(page, "Points, the best first").partition("All 4 trials")[0]
    found = [
        rows.index(row)
        for row in (
            "1e-3 best 96.2 % 0.5300",
            "3e-3 96.2 % 0.5400",
            "1e-4 75.0 % 0.5100",
            "1e-2 failed: The loss became nan. Try",
        )
    ]
    assert found == sorted(found)
    text = words(page)
    for expected in (
        "quickstart: a sweep over learning_rate",
        f"4 points of a sweep over {RATE}, each trained once, with seed 0; compared by",
        "1 437 examples to train on, 180 to validate, 181 to test, which no trial has seen",
        "Validation accuracy of the best of 3 96.2 %",
        "was chosen by the validation split, so its score there is optimistic",
        "python -m sft_keras.run --recipe=quickstart --best",
        "python -m sft_keras.run --recipe=quickstart --something",
        "1 min 10 s in all",
        "stages.top.epochs: 6",
        "keras 3.15.1",
        "trials/004",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("values", "scale"),
    [(("1e-4", "1e-3", "1e-2"), "log"), (("0", "0.1", "0.5"), "linear"), (("1", "20"), "linear")],
)
def test_one_numeric_field_is_an_axis_logarithmic_if_its_values_span_much(
    tmp_path, monkeypatch, values, scale
):
    drawn = []
    real = "sft_keras.report.sweep_plot.as_svg"
    monkeypatch.setattr(real, lambda figure, *names: drawn.append(figure) or "<svg/>")
    page_of(tmp_path, sweep(dict(zip(values, (0.5, 0.75, 0.6)))))
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == scale
    assert axes.get_xlabel() == RATE
    assert [float(label.get_text()) for label in axes.get_xticklabels()] == [*map(float, values)]


def test_points_of_one_numeric_field_are_dots_the_best_ringed_the_failed_crossed(tmp_path):
    page = page_of(tmp_path, sweep({"1": 0.5, "2": None, "3": 0.75, "4": None}))
    assert page.attributes("aria-label") == [f"Validation accuracy by {RATE}"]
    assert dots(page) == 3, "two points and the ring"
    # Ticks are drawn softly too: one at each value, and one at each of some shares.
    crosses = re.findall(r"<use [^>]*var\(--soft\)[^>]*stroke-width: 1.8", page.source)
    assert len(crosses) == 2
    assert "failed" in table(page, "Comparison").partition("Points")[0]
    assert "failed" not in words(page_of(tmp_path, sweep({"1": 0.5, "3": 0.75})))


@pytest.mark.parametrize("values", [("adam", "sgd"), ("auto", "1e-3"), ("nan", "1"), ("none", "2")])
def test_a_field_that_is_no_number_is_a_row_of_dots_for_each_value(tmp_path, values):
    page = page_of(tmp_path, sweep(dict(zip(values, (0.5, 0.75))), "stages.top.optimizer"))
    assert page.attributes("aria-label") == ["Validation accuracy by row"]
    assert dots(page) == 3
    for value in values:
        assert f">{value}</text>" in page.source


def test_a_grid_has_a_column_for_each_field(tmp_path):
    points = [
        point([f"{RATE}={rate}", f"task.dropout={share}"], [trial("seed 0", 1, score)])
        for rate, share, score in (
            ("1e-3", "0.1", 0.5),
            ("1e-3", "0.5", 0.75),
            ("1e-2", "0.1", 0.6),
        )
    ]
    page = page_of(tmp_path, report("sweep", points))
    rows = table(page, "Points, the best first")
    assert rows.strip().startswith(f"{RATE} task.dropout validation accuracy")
    assert "1e-3 best 0.5 75.0 %" in rows
    assert f"rows: {RATE}, task.dropout" in words(page)
    assert ">1e-3, 0.5</text>" in page.source
    assert "a sweep over learning_rate, dropout" in words(page)


def test_a_single_point_with_a_score_is_the_best_of_nothing(tmp_path):
    text = words(page_of(tmp_path, sweep({"1e-4": 0.75, "1e-2": None})))
    assert "Validation accuracy 75.0 %" in text
    assert "A run of its own tells how good it is on the test split" in text
    assert "optimistic" not in text


def test_seeds_of_a_sweep_give_mean_and_range_and_their_failures(tmp_path):
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


def test_backbones_show_their_parameters_and_which_could_not_be_had(tmp_path):
    points = [
        point([], [trial("seed 0", 1, 0.5)], "bundled:efficientnet_lite0"),
        point(["backbone.preset=keras:vgg16"], [trial("seed 0", 2)], "keras:vgg16"),
        point(["backbone.preset=keras:mobilenet"], [trial("seed 0", 3, 0.75)], "keras:mobilenet"),
    ]
    page = page_of(tmp_path, report("backbones", points))
    rows = table(page, "Backbones, the best first")
    assert "keras:mobilenet best 75.0 % 0.5300 1 000 003 1.5 s" in rows
    assert rows.index("bundled:efficientnet_lite0 50.0 %") < rows.index("keras:vgg16 failed: The")
    assert "3 backbones, frozen, each under a new head that was trained as in stage head" in words(
        page
    )
    assert "A run of its own, with all stages of the recipe, tells" in words(page)
    assert ">keras:mobilenet</text>" in page.source
    assert ">keras:vgg16</text>" not in page.source


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [0, 1, 2]}, "The recipe, trained with 3 seeds (0, 1, 2) on the same splits."),
        ({"folds": 3}, "The recipe, trained on 3 folds: training and validation examples were"),
    ],
)
def test_repeats_give_mean_and_range_on_validation_and_test(tmp_path, changes, said):
    name = "fold" if "folds" in changes else "seed"
    trials = [trial(f"{name} {n}", n + 1, 0.9 + 0.02 * n, 0.5 + 0.1 * n) for n in range(3)]
    page = page_of(tmp_path, report("repeats", [point([], trials, "recipe")], **changes))
    text = words(page)
    for expected in (
        said,
        f"Test accuracy, mean of 3 {name}s 60.0 % from 50.0 to 70.0 %",
        "validation 92.0 % 90.0 % 94.0 % test 60.0 % 50.0 % 70.0 %",
        f"{name} 1 92.0 % 60.0 % 0.5200 4 + 6 read from memory 1.5 s",
    ):
        assert expected in text, expected
    assert "optimistic" not in text
    assert page.attributes("aria-label") == ["accuracy by trial"]
    assert (dots(page), dots(page, "good")) == (3, 3)
    assert ("1 617 examples in the folds" in text) == ("folds" in changes)


def test_a_repeat_that_failed_is_left_out_of_the_mean_and_shown(tmp_path):
    trials = [trial("seed 0", 1, 0.75, 0.5), trial("seed 1", 2)]
    page = page_of(tmp_path, report("repeats", [point([], trials, "recipe")], seeds=[0, 1]))
    assert "Test accuracy, mean of 1 seed 50.0 %" in words(page)
    assert "seed 1 failed: The loss became nan." in words(page)


def test_a_plan_that_was_stopped_or_failed_altogether_says_so(tmp_path):
    stopped = words(page_of(tmp_path / "a", sweep({"1": 0.5}, planned=7)))
    assert "Stopped after 1 of 7 trials." in stopped
    failed = page_of(tmp_path / "b", sweep({"1": None, "2": None}))
    assert "No trial came to an end." in words(failed)
    assert "Stopped" not in words(failed)
    assert "None" not in words(failed)
    assert not failed.attributes("aria-label"), "there is nothing to draw"
    repeats = report("repeats", [point([], [trial("seed 0", 1)], "recipe")], seeds=[0, 1])
    assert "seed 0 failed: The loss became nan." in words(page_of(tmp_path / "c", repeats))


def test_very_many_rows_are_drawn_in_part_and_listed_all(tmp_path):
    scores = {f"value{number}": 0.5 + number / 200 for number in range(60)}
    page = page_of(tmp_path, sweep(scores, "task.fit"))
    assert dots(page) == 41, "the best forty and the ring"
    assert "The best 40; the other 20 are in the table." in words(page)
    assert ">value59</text>" in page.source and ">value0</text>" not in page.source
    for value in scores:
        assert f"{value} " in table(page, "Points, the best first")


def test_hostile_names_are_text_everywhere(tmp_path):
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


def test_the_page_needs_nothing_from_outside_and_its_ids_are_its_own(tmp_path):
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


def test_smoke_banner_comes_before_all_else_and_only_then(tmp_path):
    smoke = page_of(tmp_path / "smoke", sweep({"1": 0.5}, smoke=True))
    body = smoke.source.partition("<body>")[2]
    assert re.sub("<[^>]*>", "", body).strip().startswith("Smoke run: synthetic data, random")
    assert "(smoke run)" in smoke.source.partition("<title>")[2].partition("</title>")[0]
    assert "Smoke run" not in page_of(tmp_path / "real", sweep({"1": 0.5})).source


def test_a_failed_write_leaves_the_old_page_and_nothing_else(tmp_path, monkeypatch):
    write_sweep_page(sweep({"1": 0.5}), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert list(before) == ["report.html"]

    def full_disk(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_sweep_page(sweep({"1": 0.75}), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_page_never_imports_tensorflow_nor_pyplot():
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
