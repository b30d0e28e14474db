"""All stages of a recipe: what their results say, and rates that are found by a range test."""

import dataclasses
import os

import numpy as np
import pytest
from prepared_split import coloured_splits

from sft_keras import Backbone, Data, Recipe, Stage, Store
from sft_keras.core.errors import DataError
from sft_keras.data.examples import DataInfo
from sft_keras.evaluation.inference import predict_batches
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks import ImageClassification
from sft_keras.tasks.base import build_task
from sft_keras.training import trainer as training
from sft_keras.training.experiment import Experiment
from sft_keras.training.stage_runner import run_stage
from sft_keras.training.trainer import train_stages

SIZES = {"train": 24, "validation": 9, "test": 6}
INFO = DataInfo(
    "noise", ("a", "b", "c"), SIZES, {name: (size // 3,) * 3 for name, size in SIZES.items()}, {}
)


@pytest.fixture(scope="module")
def prepared():
    return coloured_splits(SIZES)


def recipe(rate):
    return Recipe(
        task=ImageClassification(),
        data=Data(source="digits", batch_size=8),
        backbone=Backbone(preset="keras:vgg16"),
        stages=(
            Stage(name="head", epochs=2, learning_rate=rate),
            Stage(name="top", epochs=2, learning_rate=1e-3, unfreeze=1),
        ),
    )


def trained(build_staged, prepared, plan, folder, **arguments):
    folder.mkdir()
    staged = build_staged(head_dropout=0.3)
    experiment = Experiment(plan, staged, prepared, INFO, RunFolder(folder, is_quiet=True))
    results = train_stages(experiment, **arguments)
    return staged, results


@pytest.mark.slow
def test_a_rate_that_was_found_trains_as_if_it_had_been_given(build_staged, prepared, tmp_path):
    found, results = trained(build_staged, prepared, recipe("auto"), tmp_path / "auto")
    head, top = results
    assert head["rate_test"]["chosen"] == head["learning_rate"]
    assert top["rate_test"] is None
    given, others = trained(
        build_staged, prepared, recipe(head["learning_rate"]), tmp_path / "given"
    )
    assert [each["history"] for each in results] == [each["history"] for each in others]
    for one, other in zip(found.model.variables, given.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    log = (tmp_path / "auto" / "log.txt").read_text()
    assert f"head  learning rate {head['learning_rate']:.2g}, by a range test: in the mid" in log


@pytest.fixture(scope="module")
def scored(build_staged, prepared, tmp_path_factory):
    """The model and the results of both stages, with scores on the test split."""
    folder = tmp_path_factory.mktemp("runs") / "scored"
    return trained(build_staged, prepared, recipe(1e-2), folder, scores_test=True)


def test_the_test_split_is_scored_once_at_the_end(scored, prepared):
    plan = recipe(1e-2)
    staged, (head, top) = scored
    assert head["test"] is None
    batches = build_task(plan, INFO).batches.evaluation(prepared["test"])
    outputs = predict_batches(staged.model, batches)
    expected = build_task(plan, INFO).evaluator.evaluate(outputs, prepared["test"])
    assert top["test"]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert top["test"]["confusion_matrix"] == expected["confusion_matrix"]


@pytest.mark.slow
def test_the_test_split_is_scored_only_if_asked(scored, build_staged, prepared, tmp_path):
    _, unasked = trained(build_staged, prepared, recipe(1e-2), tmp_path / "unasked")
    assert [each["test"] for each in unasked] == [None, None]
    assert [each["history"] for each in unasked] == [each["history"] for each in scored[1]]


@pytest.mark.slow
def test_rows_that_are_cut_off_while_they_are_read_end_the_run_with_a_message(
    build_staged, prepared, tmp_path, monkeypatch
):
    rows = tmp_path / "rows"
    plan = dataclasses.replace(recipe(1e-2), cache="disk", store=Store(folder=str(rows)))

    def cut_off(*arguments, **named):
        for file in rows.rglob("rows"):
            os.truncate(file, 100)
        return run_stage(*arguments, **named)

    monkeypatch.setattr(training, "run_stage", cut_off)
    with pytest.raises(DataError, match=r"on disk were truncated.* Run again"):
        trained(build_staged, prepared, plan, tmp_path / "first")
    monkeypatch.undo()
    _, (head, _) = trained(build_staged, prepared, plan, tmp_path / "second")
    assert head["frozen_blocks"].startswith("computed once")
    assert "damaged, will be computed again" in (tmp_path / "second" / "log.txt").read_text()
