"""Who follows a run is told its figures, goes on with it, and cannot end it."""

import dataclasses
import json
from typing import ClassVar

import pytest

from sft_keras import load_recipe
from sft_keras.core.errors import RecipeError
from sft_keras.runs import trackers
from sft_keras.runs.folder import RunFolder

METRICS = {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}, "loss": 0.3, "examples": 7}


class Heard(trackers.Service):
    """Notes what it is told."""

    made: ClassVar = []

    def __init__(self, name, recipe, known):
        self.id, self.where = known or "new-id", "nowhere"
        self.name, self.recipe, self.known, self.told = name, recipe, known, []
        Heard.made.append(self)

    def note(self, step, figures):
        self.told.append((step, dict(figures)))

    def end(self, figures, report):
        self.told.append(("end", dict(figures), report))


class Broken(Heard):
    """Fails once the run is under way."""

    def note(self, step, figures):
        raise ConnectionError("no\nnetwork")


@pytest.fixture
def recipe():
    return dataclasses.replace(load_recipe("quickstart").recipe, trackers=("mlflow",))


@pytest.fixture
def service(monkeypatch):
    Heard.made = []
    monkeypatch.setitem(trackers._SERVICES, "mlflow", Heard)
    return Heard


def test_a_service_is_told_the_recipe_each_epoch_and_the_test(recipe, service, tmp_path):
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    with trackers.open_trackers(recipe, run) as followers:
        run.epoch("head", 3, {"loss": 0.5})
        followers.end(METRICS, run.file("report.html"))
    (heard,) = service.made
    assert heard.name == "run" and heard.recipe["stages.head.epochs"] == str(
        recipe.stages[0].epochs
    )
    tested = ("end", {"accuracy": 0.9, "loss": 0.3}, run.file("report.html"))
    assert heard.told == [(3, {"loss": 0.5}), tested]
    assert json.loads(run.file("trackers.json").read_text()) == {"mlflow": "new-id"}


def test_a_run_that_is_gone_on_with_goes_on_there(recipe, service, tmp_path):
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    with pytest.raises(KeyboardInterrupt), trackers.open_trackers(recipe, run):
        raise KeyboardInterrupt
    with trackers.open_trackers(recipe, RunFolder(run.path)) as followers:
        followers.end(METRICS, None)
    first, second = service.made
    assert first.told == [("end", {}, None)]
    assert (first.known, second.known) == (None, "new-id")


def test_a_service_that_fails_is_left_out_and_the_run_goes_on(
    recipe, service, monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(trackers._SERVICES, "mlflow", Broken)
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    with trackers.open_trackers(recipe, run) as followers:
        for step in (3, 6):
            run.epoch("head", step, {"loss": 0.5})
        followers.end(METRICS, None)
    said = capsys.readouterr().out
    assert said.count("warning  mlflow does not follow any more: no network") == 1
    assert service.made[0].told == []


def test_what_is_not_installed_is_said_before_the_run(recipe, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install mlflow, or leave it out"):
        trackers.require_trackers(recipe)


@pytest.mark.slow
def test_mlflow_has_the_figures(recipe, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the one that its small package has
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    run.file("report.html").write_text("page")
    with trackers.open_trackers(recipe, run) as followers:
        run.epoch("head", 3, {"loss": 0.5})
        run.epoch("head", 6, {"loss": 0.25})
        followers.end(METRICS, run.file("report.html"))
    client = mlflow.MlflowClient()
    name = json.loads(run.file("trackers.json").read_text())["mlflow"]
    points = client.get_metric_history(name, "loss")
    assert [(point.step, point.value) for point in points] == [(3, 0.5), (6, 0.25)]
    found = client.get_run(name)
    assert found.info.status == "FINISHED" and found.data.metrics["test_accuracy"] == 0.9
    assert found.data.params["stages.head.epochs"] == str(recipe.stages[0].epochs)


@pytest.mark.slow
def test_wandb_takes_the_figures_offline(recipe, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    run.file("report.html").write_text("page")
    given = dataclasses.replace(recipe, trackers=("wandb",))
    with trackers.open_trackers(given, run) as followers:
        run.epoch("head", 3, {"loss": 0.5})
        followers.end(METRICS, run.file("report.html"))
    assert "warning" not in run.file("log.txt").read_text()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
