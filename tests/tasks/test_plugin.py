"""A task of another package (`tests/plugin`) goes through everything without an edit in ours."""

import dataclasses
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from cached_training import losses_and_outputs

import sft_keras
from sft_keras import Data, Recipe, Stage
from sft_keras.core.errors import RecipeError
from sft_keras.core.reporter import SILENT
from sft_keras.recipe import task_registry
from sft_keras.recipe.json_file import read_recipe

PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The path of the package with its metadata, as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    info = folder / "sft_counting-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1")
    (group,) = project["entry-points"]
    entries = "\n".join(f"{name} = {path}" for name, path in project["entry-points"][group].items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")
    paths = [str(PLUGIN), str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        for path in paths:
            patch.syspath_prepend(path)
        task_registry._registered.cache_clear()
        yield os.pathsep.join(paths)
    task_registry._registered.cache_clear()


@pytest.fixture(scope="module")
def recipe(installed, tiny_backbone):
    from sft_counting.config import CountDots

    return Recipe(
        task=CountDots(),
        data=Data(source="dots:90", batch_size=8),
        backbone=tiny_backbone,
        stages=(
            Stage(name="head", epochs=3, learning_rate=1e-2, monitor="val_count_error"),
            Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1),
        ),
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return sft_keras.finetune(recipe, run_dir=tmp_path_factory.mktemp("plugin") / "run")


def test_the_entry_point_registers_the_task(installed):
    assert "CountDots" in task_registry.task_kinds()
    assert task_registry.task_class("CountDots").__module__ == "sft_counting.config"
    assert task_registry.task_kinds()[: len(task_registry.TASKS)] == tuple(task_registry.TASKS)


def test_a_task_that_is_not_registered_is_found_only_if_its_module_is_imported(installed):
    assert task_registry.task_class("sft_counting.config:CountDots").__name__ == "CountDots"
    with pytest.raises(RecipeError, match=r"not registered and its module is not imported"):
        task_registry.task_class("antigravity:CountDots")
    assert "antigravity" not in sys.modules
    with pytest.raises(RecipeError, match=r"Did you mean 'CountDots'\?"):
        task_registry.task_class("CountDot")
    with pytest.raises(RecipeError, match=r"not registered"):
        task_registry.task_class("json:JSONDecoder")


def test_monitors_are_the_metrics_of_the_task(recipe):
    wrong = dataclasses.replace(recipe.stages[0], monitor="val_accuracy")
    with pytest.raises(RecipeError, match=r"must be one of val_loss, val_count_error"):
        dataclasses.replace(recipe, stages=(wrong,)).validate()


@pytest.mark.slow
def test_a_run_is_scored_monitored_and_reported_in_its_own_unit(run):
    report = run.report
    assert report["score"] == "count_error"
    assert report["metrics"]["count_error"]["higher_is_better"] is False
    history = report["stages"][0]["history"]["val_count_error"]
    assert report["stages"][0]["best_epoch"] == 1 + int(np.argmin(history))
    assert report["stages"][0]["audit"]["frozen_identical"]
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    error = run.metrics["count_error"]["value"]
    assert f"{error:.4g}" in page and f"{100 * error:.1f}" not in page
    assert report["export"]["largest_difference"] < 1e-3
    assert read_recipe(run.run_dir / "recipe.json").task.dropout == 0.0


@pytest.mark.slow
def test_cached_features_train_step_by_step_as_computed_ones(recipe):
    losses, outputs = losses_and_outputs(recipe, "off")
    cached_losses, cached_outputs = losses_and_outputs(recipe, "memory")
    np.testing.assert_allclose(cached_losses, losses, rtol=1e-5)
    np.testing.assert_allclose(cached_outputs, outputs, rtol=1e-4)


@pytest.mark.slow
def test_the_command_predicts_files_in_the_words_of_the_task(run, installed, tmp_path):
    import tensorflow as tf
    from sft_counting.task import dot_images

    (image,), _ = dot_images(1, seed=5)
    file = tmp_path / "dots.png"
    file.write_bytes(tf.io.encode_png(image).numpy())
    root = Path(sft_keras.__file__).parent.parent
    command = [sys.executable, "-m", "sft_keras.predict", f"--run={run.run_dir}", str(file)]
    path = os.pathsep.join([str(root), installed])
    environment = os.environ | {"PYTHONPATH": path}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert " dots  " in ran.stdout and str(file) in ran.stdout


@pytest.mark.slow
def test_the_notebook_and_the_demo_show_the_line(run, installed, tmp_path):
    import tensorflow as tf

    from sft_keras.inference.exported_model import ExportedModel
    from sft_keras.inference.predict import predict
    from sft_keras.notebook.fragments import render_predictions

    file = tmp_path / "black.png"
    file.write_bytes(tf.io.encode_png(np.zeros((32, 32, 3), np.uint8)).numpy())
    predictions = list(predict(run.run_dir, [file]))
    assert predictions[0].describe().strip() in render_predictions(predictions, True).html
    assert json.loads(json.dumps(predictions[0].as_json()))["value"] == predictions[0].value
    pytest.importorskip("gradio")
    from sft_keras.demo.header import About
    from sft_keras.demo.page import build_page
    from sft_keras.serving.limits import Limits

    assert build_page(ExportedModel(run.run_dir), About("dots"), Limits())


@pytest.mark.slow
def test_a_sweep_takes_the_smallest_error_for_the_best(recipe, tmp_path):
    from sft_keras.recipe.loader import load_recipe
    from sft_keras.sweeps.plan import plan_trials
    from sft_keras.sweeps.run import run_trials

    plan = plan_trials(recipe, sweep=["stages.head.learning_rate=1e-6,1e-2"])
    report = run_trials(load_recipe(recipe), plan, run_dir=tmp_path / "sweep")
    means = [point["scores"]["validation"]["mean"] for point in report["points"]]
    assert report["best"] == int(np.argmin(means)) and means[0] != means[1]


@pytest.mark.slow
def test_check_smoke_and_export_say_what_they_can(recipe, run):
    from sft_keras.check.inspect import check_data
    from sft_keras.export.formats import LITERT, require_exportable

    checked, prepared = check_data(recipe, SILENT)
    assert set(prepared) == {"train", "validation", "test"} and checked.skipped
    recipe.task.smoke_recipe(recipe).validate()
    with pytest.raises(RecipeError, match=r"litert is not supported for CountDots"):
        require_exportable([LITERT], recipe)


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_weights(recipe, run, tmp_path):
    from sft_keras.training import loop

    steps = {"left": 14}
    train = loop.Steps.train

    def stopping(self, *arguments):
        steps["left"] -= 1
        if steps["left"] == 0:
            raise KeyboardInterrupt
        return train(self, *arguments)

    every = dataclasses.replace(recipe.checkpoints, every_steps=1)
    plan = dataclasses.replace(recipe, checkpoints=every)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Steps, "train", stopping)
        with pytest.raises(BaseException):  # noqa: B017  the interrupt, as the run reports it
            sft_keras.finetune(plan, run_dir=tmp_path / "run")
    resumed = sft_keras.finetune(plan, run_dir=tmp_path / "run", resume=True)
    for value, expected in zip(resumed.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
