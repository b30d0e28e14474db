"""The contract of a task, over every registered task.

A new task adds a tiny recipe to `tests/support/task_cases.py`, and nothing here.
"""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from cached_training import assert_views_keep_their_targets, cached_views, losses_and_outputs
from task_cases import KINDS, task_case, task_run

from sft_keras import load_recipe
from sft_keras.inference.predict import predict
from sft_keras.recipe.json_file import read_recipe
from sft_keras.recipe.task_registry import TASKS
from sft_keras.tasks import TextAugment
from sft_keras.tasks.base import build_task

FAST = ("TextClassification",)
"""Whose run the default tests train; CI trains those of all."""


def over(kinds, fast=FAST, nightly=()):
    """Parametrize a test over tasks: those not `fast` are slow, and some are for the night."""
    marks = {
        kind: [
            *([] if kind in fast else [pytest.mark.slow]),
            *([pytest.mark.nightly] if kind in nightly else []),
        ]
        for kind in kinds
    }
    return pytest.mark.parametrize(
        "kind", [pytest.param(kind, marks=marks[kind]) for kind in kinds]
    )


def test_every_registered_task_has_a_case():
    assert set(KINDS) == set(TASKS)


# The default tests prove it in the feature cache's room. Inputs of MaskedLM change every epoch.
@over(
    [kind for kind in KINDS if kind != "MaskedLM"],
    fast=(),
    nightly=("ImageClassification", "TextMultiLabel", "TextRegression"),
)
def test_cached_features_train_step_by_step_as_computed_ones(kind):
    recipe = task_case(kind).recipe
    losses, outputs = losses_and_outputs(recipe, "off")
    cached_losses, cached_outputs = losses_and_outputs(recipe, "memory")
    assert len(set(losses)) == len(losses)
    np.testing.assert_allclose(cached_losses, losses, rtol=1e-5)
    for cached, computed in zip(
        parts_of(kind, cached_outputs), parts_of(kind, outputs), strict=True
    ):
        np.testing.assert_allclose(cached, computed, atol=1e-5)


@over(KINDS)
def test_frozen_variables_are_bit_identical_and_the_audit_says_so(kind):
    for stage in task_run(kind).report["stages"]:
        assert stage["audit"]["frozen_identical"]


@over(KINDS)
def test_the_export_was_verified_against_the_model(kind):
    run, recipe = task_run(kind), task_case(kind).recipe
    info = build_task(recipe).open_data(0).info
    unit = build_task(recipe, info).exporter.signatures(run.model).unit
    export = run.report["export"]
    assert export["checked"] > 0
    assert export["largest_difference"] < 1e-4 * unit


@over(KINDS)
def test_predictions_answer_every_input_in_order(kind):
    inputs = task_case(kind).inputs
    predictions = list(predict(task_run(kind).run_dir, inputs))
    assert [prediction.error for prediction in predictions] == [None] * len(inputs)
    assert [prediction.input for prediction in predictions] == list(inputs)
    for prediction in predictions:
        assert prediction.lines()
        json.dumps(prediction.as_json())


@over(KINDS)
def test_the_saved_model_file_loads_with_the_same_weights(kind):
    run = task_run(kind)
    loaded = keras.models.load_model(run.run_dir / "model.keras")
    expected = run.model.get_weights()
    for value, trained in zip(loaded.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, trained)


@over(KINDS)
def test_the_report_has_the_score_with_its_page(kind):
    run = task_run(kind)
    score = run.report["score"]
    assert run.metrics[score]["low"] <= run.metrics[score]["value"] <= run.metrics[score]["high"]
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert "</html>" in page and kind in page
    assert (run.run_dir / "MODEL_CARD.md").is_file() or (run.run_dir / "README.md").is_file()


@over(KINDS)
def test_the_recipe_is_written_and_the_smoke_recipe_is_valid(kind):
    run, recipe = task_run(kind), task_case(kind).recipe
    if isinstance(recipe.data.source, str):
        assert read_recipe(run.run_dir / "recipe.json") == recipe
    smoke = recipe.task.smoke_recipe(recipe)
    smoke.validate()
    assert load_recipe(smoke).recipe == smoke


@over(
    ["TextClassification", "TextMultiLabel", "TextRegression"],
    fast=(),
    nightly=("TextMultiLabel", "TextRegression"),  # proven in CI by tests of their rooms
)
def test_stored_views_keep_the_targets_of_their_examples(kind, tmp_path):
    recipe = task_case(kind).recipe
    augmented = dataclasses.replace(recipe.task, augment=TextAugment(delete=0.2))
    plan = dataclasses.replace(recipe, task=augmented)
    plain, stored, _ = cached_views(plan, tmp_path)
    if plain.targets is not None:
        assert_views_keep_their_targets(plain, stored)
    else:
        assert len(stored.features) == 2 * len(plain.examples)


def parts_of(kind, outputs):
    """Return the arrays of a task's outputs, whatever their structure."""
    parts = [np.asarray(part) for part in tf.nest.flatten(outputs)]
    if kind == "QuestionAnswering":
        # A softmax over places ignores a common shift of its logits. The gradient of that shift is
        # rounding alone, of which Adam makes whole steps.
        parts = [part - part.mean(axis=1, keepdims=True) for part in parts]
    return parts
