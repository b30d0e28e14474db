"""A number a text: read, trained in any unit, counted, exported and told."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from cached_training import (
    Experiment,
    assert_views_keep_their_targets,
    cached_views,
    losses_and_outputs,
)
from scipy import stats
from sklearn import metrics
from task_cases import number_texts, task_case, task_run

from sft_keras import Data, Recipe, Texts
from sft_keras.core.errors import DataError, ExportError, RecipeError
from sft_keras.export.saved_model import check_saved_model
from sft_keras.export.saved_model_probe import packed
from sft_keras.inference.predict import predict
from sft_keras.sweeps.shared import TrialContext
from sft_keras.tasks import TextAugment, TextRegression
from sft_keras.tasks.base import build_task
from sft_keras.tasks.text_classification.regression import numeric_labels
from sft_keras.tasks.text_classification.regression_metrics import regression_metrics


@pytest.fixture(scope="module")
def recipe():
    return task_case("TextRegression").recipe


@pytest.fixture(scope="module")
def run():
    return task_run("TextRegression")


def open_data(source, seed=0):
    recipe = Recipe(task=TextRegression(), data=Data(source=source), backbone=None, stages=())
    return build_task(recipe).open_data(seed)


def numbers_of(examples):
    return numeric_labels(examples)


def test_tables_and_lists_say_the_same_numbers(tmp_path):
    expected = {f"text {n}": n / 4 - 3 for n in range(40)}
    rows = [f"{text},{number}" for text, number in expected.items()]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    for source in (f"csv:{tmp_path / 'a.csv'}", Texts((list(expected), list(expected.values())))):
        splits = open_data(source)
        found = {}
        for examples in (splits.train, splits.validation, splits.test):
            texts = [each["texts"][0].numpy().decode() for each in examples.stream(None)]
            found |= dict(zip(texts, numbers_of(examples).tolist()))
        assert found == expected
        train = numbers_of(splits.train)
        numbers = splits.info.facts["numbers"]
        assert (numbers["mean"], numbers["deviation"]) == pytest.approx((train.mean(), train.std()))
        assert splits.info.summary().endswith("32 train, 4 validation, 4 test")


@pytest.mark.parametrize("label", ["good", "1,5", float("inf"), True, [1.0]])
def test_what_is_no_number_is_named_with_its_row(label):
    labels = [1.0, label, *range(40)]
    shown = f" \\('?{label}" if isinstance(label, str) and label else ""
    said = rf"1 texts must have a finite number as their label: train\[1\]{shown}"
    with pytest.raises(DataError, match=said):
        open_data(Texts(([f"t{n}" for n in range(42)], labels)))


def test_a_row_of_a_table_is_named_too(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": f"t{n}", "label": "x" if n == 7 else n}) for n in range(40))
    )
    with pytest.raises(DataError, match=r"as their label: train\[7\] \(line 8, 'x'\)"):
        open_data(f"jsonl:{tmp_path / 'a.jsonl'}")


def test_numbers_that_are_all_the_same_are_refused():
    with pytest.raises(DataError, match=r"have the same label, 2\.5"):
        open_data(Texts(([f"t{n}" for n in range(30)], [2.5] * 30)))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (
            "monitor",
            "val_accuracy",
            r"must be one of val_loss, val_mean_absolute_error\. Received: 'val_acc",
        ),
        ("class_weights", "balanced", r"is not supported by TextRegression"),
        ("label_smoothing", 0.1, r"is not supported by TextRegression\. Received: 0\.1"),
    ],
)
def test_what_is_for_classes_is_refused_before_anything_is_opened(recipe, field, value, said):
    stage = dataclasses.replace(recipe.stages[0], **{field: value})
    wrong = dataclasses.replace(recipe, stages=(stage,))
    with pytest.raises(RecipeError, match=rf"`stages\.head\.{field}`.*{said}"):
        wrong.validate()
    recipe.validate()


def test_high_and_low_numbers_are_in_every_split():
    numbers = [0.0] * 250 + [100.0] * 25 + [-100.0] * 25
    for seed in range(5):
        splits = open_data(Texts(([f"t{n}" for n in range(300)], numbers)), seed)
        for examples in (splits.validation, splits.test):
            values, counts = np.unique(numbers_of(examples), return_counts=True)
            assert values.tolist() == [-100, 0, 100]
            assert counts.min() >= 2 and counts.sum() == 30


def test_figures_are_those_of_scipy_and_scikit_learn():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 5, 50).astype(np.float32)
    predicted = (1 + 0.5 * truth + draw.normal(size=50)).astype(np.float32)
    found = regression_metrics(predicted, truth, 4.0, seed=1)
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(truth, predicted).statistic)
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(truth, predicted).statistic)
    assert found["r2"]["value"] == pytest.approx(metrics.r2_score(truth, predicted))
    squared = metrics.mean_squared_error(truth, predicted)
    assert found["mean_squared_error"] == pytest.approx(squared, rel=1e-6)
    assert found["root_mean_squared_error"] == pytest.approx(np.sqrt(squared), rel=1e-6)
    assert found["loss"] == pytest.approx(squared / 4, rel=1e-6)
    absolute = metrics.mean_absolute_error(truth, predicted)
    assert found["mean_absolute_error"] == pytest.approx(absolute, rel=1e-6)
    for name in ("r2", "pearson", "spearman"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    expected = stats.bootstrap(
        (truth, predicted),
        lambda a, b: stats.pearsonr(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert found["pearson"]["low"] == pytest.approx(expected.low, abs=0.03)
    assert found["pearson"]["high"] == pytest.approx(expected.high, abs=0.03)


def test_a_correlation_with_what_does_not_vary_is_not_made_up():
    found = regression_metrics(np.ones(5), np.arange(5.0), 2.0, seed=0)
    assert np.isnan(found["pearson"]["value"]) and np.isnan(found["spearman"]["low"])
    assert found["r2"]["value"] == pytest.approx(-0.5)
    assert np.isnan(regression_metrics(np.arange(5.0), np.ones(5), 2.0, seed=0)["r2"]["value"])


@pytest.fixture(scope="module")
def computed_anew(recipe):
    """Losses and answers where the frozen blocks are computed in every step."""
    return losses_and_outputs(recipe, "off")


@pytest.mark.slow
def test_training_is_the_same_in_any_unit_and_answers_are_in_the_labels(recipe, computed_anew):
    plain = dataclasses.replace(recipe, data=Data(source=number_texts(120), batch_size=8))
    losses, outputs = losses_and_outputs(plain, "memory")
    np.testing.assert_allclose(losses, computed_anew[0], rtol=1e-3)
    np.testing.assert_allclose(1000 + 25 * outputs, computed_anew[1], atol=0.05)
    assert np.ptp(computed_anew[1]) > 5


def test_the_loss_is_one_for_answering_the_mean(recipe):
    opened = Experiment(recipe)
    train = opened.prepared["train"]
    for batches in (
        build_task(recipe, opened.info).batches.training(train, recipe.stages[0]).take(12),
        build_task(recipe, opened.info).batches.evaluation(train),
    ):
        mean = opened.info.facts["numbers"]["mean"]
        losses, sizes = [], []
        for _, labels, weights in batches:
            loss = build_task(recipe, opened.info).objective.loss(recipe.stages[0])
            losses.append(loss(labels, tf.fill(tf.shape(labels), mean), sample_weight=weights))
            sizes.append(len(labels))
        assert sum(sizes) == len(train.examples)
        assert np.average(losses, weights=sizes) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.slow
def test_stored_views_have_the_numbers_of_their_texts(recipe, tmp_path):
    task = dataclasses.replace(recipe.task, augment=TextAugment(mask=0.2))
    plain, stored, _ = cached_views(dataclasses.replace(recipe, task=task), tmp_path)
    assert_views_keep_their_targets(plain, stored)


def test_folds_keep_each_text_and_its_number_together(recipe):
    bench = TrialContext(lambda done, total: None)
    splits = build_task(recipe).open_data(0)
    expected = {}
    for examples in (splits.train, splits.validation):
        expected |= dict(zip(examples.ids, numbers_of(examples)))
    validated = []
    for fold in bench.data(recipe, 0, folds=3):
        for name in ("train", "validation"):
            split = fold.prepared[name]
            found = split.targets.take(tf.range(len(split.examples))).numpy()[:, 0]
            assert dict(zip(split.examples.ids, found)).items() <= expected.items()
        validated += fold.prepared["validation"].examples.ids
    assert sorted(validated) == sorted(expected)


@pytest.mark.slow  # trains a whole run
def test_the_exported_model_answers_in_the_unit_of_the_labels(run, recipe):
    assert run.report["export"]["checked"] == 12
    texts = ["abc q", "qqqqqqqqqqqq", ""]
    inputs = build_task(recipe).encoder.encode(tf.constant(texts))
    expected = run.model(inputs, training=False).numpy()
    assert expected.shape == (3, 1) and expected.min() > 900
    found = list(predict(run.run_dir, texts))
    np.testing.assert_allclose([each.value for each in found], expected[:, 0], rtol=1e-5)
    assert found[0].describe().strip() == f"{found[0].value:.6g}"
    assert found[0].as_json()["value"] == found[0].value


@pytest.mark.slow
def test_an_export_that_is_off_by_a_thousandth_of_the_deviation_is_refused(run, recipe):
    texts = np.array([b"abc q", b"qq"], object)
    values = np.array([each.value for each in predict(run.run_dir, ["abc q", "qq"])])
    info = build_task(recipe).open_data(0).info
    unit = build_task(recipe, info).exporter.signatures(run.model).unit
    assert unit == pytest.approx(info.facts["numbers"]["deviation"])
    asked = packed({"serving_default": {"texts": texts}})
    arguments = (run.export_dir, asked)
    largest = 1e-4 * unit
    checked = check_saved_model(*arguments, values, output="value", tolerance=largest)
    assert checked["largest_difference"] < 1e-4 * unit
    with pytest.raises(ExportError, match="Expected: value within"):
        check_saved_model(*arguments, values + 1e-3 * unit, output="value", tolerance=largest)


@pytest.mark.slow  # trains a whole run
def test_the_report_shows_figures_in_the_unit_and_the_largest_errors(run):
    figures = run.report["test"]
    assert run.report["score"] == "r2"
    stage = run.report["stages"][-1]
    if stage["best_epoch"]:
        assert stage["validation"]["loss"] == pytest.approx(
            stage["history"]["val_loss"][stage["best_epoch"] - 1], rel=1e-3
        )
    mistakes = run.report["mistakes"]
    errors = [abs(float(each["true"]) - float(each["predicted"])) for each in mistakes]
    assert len(errors) == 12 and errors == sorted(errors, reverse=True)
    assert np.mean(errors) == pytest.approx(figures["mean_absolute_error"], rel=0.05)
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert f"{figures['mean_absolute_error']:.3g}</td>" in page
    assert "Labels of the training split: from" in page and "largest prediction errors" in page
    assert "0 classes" not in page and "with its probability" not in page
