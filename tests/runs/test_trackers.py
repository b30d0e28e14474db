"""Trackers receive the metrics of a run, continue with a resumed run, and cannot stop it."""

import dataclasses
import json
from typing import ClassVar

import pytest

from sft_keras import load_recipe
from sft_keras.core.errors import RecipeError
from sft_keras.runs import trackers
from sft_keras.runs.folder import RunFolder

METRICS = {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}, "loss": 0.3, "examples": 7}


class RecordingService(trackers.Service):
    """Records its calls."""

    instances: ClassVar = []

    def __init__(self, name, recipe, run_id):
        self.id, self.location = run_id or "new-id", "nowhere"
        self.name, self.recipe, self.run_id, self.calls = name, recipe, run_id, []
        RecordingService.instances.append(self)

    def log_epoch(self, step, metrics):
        self.calls.append((step, dict(metrics)))

    def finish(self, metrics, report):
        self.calls.append(("end", dict(metrics), report))


class FailingService(RecordingService):
    """Fails in the first epoch."""

    def log_epoch(self, step, metrics):
        raise ConnectionError("no\nnetwork")


@pytest.fixture
def recipe():
    return dataclasses.replace(load_recipe("quickstart").recipe, trackers=("mlflow",))


@pytest.fixture
def service(monkeypatch):
    RecordingService.instances = []
    monkeypatch.setitem(trackers._SERVICES, "mlflow", RecordingService)
    return RecordingService


def test_a_service_receives_the_recipe_each_epoch_and_the_test(recipe, service, tmp_path):
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    with trackers.open_trackers(recipe, run) as opened:
        run.epoch("head", 3, {"loss": 0.5})
        opened.finish(METRICS, run.file("report.html"))
    (recorded,) = service.instances
    assert recorded.name == "run" and recorded.recipe["stages.head.epochs"] == str(
        recipe.stages[0].epochs
    )
    tested = ("end", {"accuracy": 0.9, "loss": 0.3}, run.file("report.html"))
    assert recorded.calls == [(3, {"loss": 0.5}), tested]
    assert json.loads(run.file("trackers.json").read_text()) == {"mlflow": "new-id"}


def test_a_resumed_run_continues_in_its_service(recipe, service, tmp_path):
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    with pytest.raises(KeyboardInterrupt), trackers.open_trackers(recipe, run):
        raise KeyboardInterrupt
    with trackers.open_trackers(recipe, RunFolder(run.path)) as opened:
        opened.finish(METRICS, None)
    first, second = service.instances
    assert first.calls == [("end", {}, None)]
    assert (first.run_id, second.run_id) == (None, "new-id")


def test_a_failing_service_is_dropped_and_the_run_continues(
    recipe, service, monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(trackers._SERVICES, "mlflow", FailingService)
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    with trackers.open_trackers(recipe, run) as opened:
        for step in (3, 6):
            run.epoch("head", step, {"loss": 0.5})
        opened.finish(METRICS, None)
    said = capsys.readouterr().out
    assert said.count("warning  mlflow no longer tracks this run: no network") == 1
    assert service.instances[0].calls == []


def test_a_missing_package_is_reported_before_the_run(recipe, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install mlflow, or remove"):
        trackers.require_trackers(recipe)


@pytest.mark.slow
def test_mlflow_receives_the_metrics(recipe, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the one that its small package has
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    run.file("report.html").write_text("page")
    with trackers.open_trackers(recipe, run) as opened:
        run.epoch("head", 3, {"loss": 0.5})
        run.epoch("head", 6, {"loss": 0.25})
        opened.finish(METRICS, run.file("report.html"))
    client = mlflow.MlflowClient()
    name = json.loads(run.file("trackers.json").read_text())["mlflow"]
    points = client.get_metric_history(name, "loss")
    assert [(point.step, point.value) for point in points] == [(3, 0.5), (6, 0.25)]
    found = client.get_run(name)
    assert found.info.status == "FINISHED" and found.data.metrics["test_accuracy"] == 0.9
    assert found.data.params["stages.head.epochs"] == str(recipe.stages[0].epochs)


@pytest.mark.slow
def test_wandb_receives_the_metrics_offline(recipe, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run = RunFolder.create("x", tmp_path / "run", overwrite=False)
    run.file("report.html").write_text("page")
    given = dataclasses.replace(recipe, trackers=("wandb",))
    with trackers.open_trackers(given, run) as opened:
        run.epoch("head", 3, {"loss": 0.5})
        opened.finish(METRICS, run.file("report.html"))
    assert "warning" not in run.file("log.txt").read_text()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
