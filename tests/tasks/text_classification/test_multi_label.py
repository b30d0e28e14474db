"""Any number of labels a text: read, trained, counted, exported and told."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from cached_training import assert_views_keep_their_targets, cached_views
from sklearn import metrics
from task_cases import task_case, task_run

from sft_keras import Data, Recipe, Stage, Texts
from sft_keras.core.errors import DataError, RecipeError
from sft_keras.data.examples import DataInfo
from sft_keras.inference.predict import predict
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.tasks import TextAugment, TextMultiLabel
from sft_keras.tasks.base import build_task
from sft_keras.tasks.class_weights import positive_weights
from sft_keras.tasks.text_classification.multi_label import MultiLabelObjective
from sft_keras.tasks.text_classification.multi_label_metrics import multi_label_metrics

CLASSES = ("has j", "has q", "has z")


@pytest.fixture(scope="module")
def recipe():
    return task_case("TextMultiLabel").recipe


@pytest.fixture(scope="module")
def run():
    return task_run("TextMultiLabel")


def open_data(source, **task):
    recipe = Recipe(
        task=TextMultiLabel(**task), data=Data(source=source), backbone=None, stages=(), cache="off"
    )
    return build_task(recipe).open_data(0)


def labels_of(splits):
    """Returns {text: its labels} of all splits."""
    found = {}
    for examples in (splits.train, splits.validation, splits.test):
        for each in examples.stream(None):
            row = examples.occurrences[int(each["index"])]
            names = {splits.info.class_names[label] for label in np.flatnonzero(row)}
            found[each["texts"][0].numpy().decode()] = names
    return found


NAMES = [["b", "a"], [], ["c"], ["a"]] * 15
EXPECTED = {f"text {number}": set(names) for number, names in enumerate(NAMES)}


def write(folder, ending):
    """Writes `EXPECTED` as a table; returns the source."""
    file = folder / f"a.{ending}"
    if ending == "tsv":
        rows = [f"text {n}\t{' | '.join(names)}" for n, names in enumerate(NAMES)]
        file.write_text("\n".join(["text\tlabel", *rows]))
    else:
        rows = [{"text": f"text {n}", "label": names or None} for n, names in enumerate(NAMES)]
        file.write_text("\n".join(map(json.dumps, rows)))
    return f"{ending}:{file}"


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "Texts"])
def test_tables_and_lists_say_which_labels_a_text_has(kind, tmp_path):
    source = Texts((list(EXPECTED), NAMES)) if kind == "Texts" else write(tmp_path, kind)
    splits = open_data(source, label_separator="|")
    assert splits.info.class_names == ("a", "b", "c")
    assert labels_of(splits) == EXPECTED
    counts = np.sum([splits.info.counts[name] for name in splits.info.sizes], axis=0)
    assert counts.tolist() == [30, 15, 15]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (["a", "a"], r"1 texts have the same label twice.*: train\[1\] \(\"\['a', 'a'\]\"\)"),
        ([0, 1, 0], r"1 texts have the same label twice"),  # a row of 0 and 1 for the classes
        ("a, b,a", r"1 texts have the same label twice.*: train\[1\] \('a, b,a'\)"),
        ([["a"]], r"1 texts must have a list of names as their label: train\[1\]"),
        ({"a": 1}, r"1 texts must have a list of names as their label: train\[1\]"),
    ],
)
def test_labels_that_are_no_names_are_named_with_their_row(label, said):
    labels = [["a"], label, *[["a"], ["b"]] * 20]
    with pytest.raises(DataError, match=said):
        open_data(Texts(([f"t{n}" for n in range(42)], labels)))


def test_data_without_any_label_and_other_sources_are_refused(recipe):
    with pytest.raises(DataError, match=r"No text of 'Texts\(train=30\)' has a label to learn"):
        open_data(Texts(([f"t{n}" for n in range(30)], [[]] * 30)))
    wrong = dataclasses.replace(recipe, data=Data(source="tfds:glue/sst2"))
    with pytest.raises(RecipeError, match=r"`data.source` for TextMultiLabel .* Received: 'tfds'"):
        wrong.validate()
    with pytest.raises(RecipeError, match=r"`task.threshold` must be above 0 and below 1"):
        dataclasses.replace(recipe, task=TextMultiLabel(threshold=1.0)).validate()
    stage = dataclasses.replace(recipe.stages[0], class_weights={"has k": 2.0})
    wrong = dataclasses.replace(recipe, stages=(stage,))
    info = open_data(recipe.data.source).info
    with pytest.raises(RecipeError, match=r"Received: has k\. Did you mean 'has "):
        build_task(wrong, info).check_against_data()


def test_a_rare_label_is_in_every_split_and_very_rare_ones_are_no_group_of_their_own():
    labels = [["often"] if n % 3 else [] for n in range(300)]
    for n in range(5, 300, 25):
        labels[n] = ["often", "rare"]
    for n in (0, 50, 100):
        labels[n] = ["once"]
    for seed in range(3):
        recipe = Recipe(
            task=TextMultiLabel(),
            data=Data(source=Texts(([f"t{n}" for n in range(300)], labels))),
            backbone=None,
            stages=(),
        )
        splits = build_task(recipe).open_data(seed)
        rare = splits.info.class_names.index("rare")
        assert [splits.info.counts[name][rare] for name in ("validation", "test")] == [1, 1]
        assert sorted(np.unique(splits.train.labels, return_counts=True)[1])[0] == 10
        assert splits.info.origin["test"] == f"created here: 0.1 of train, stratified, seed {seed}"


def test_figures_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    truth = draw.random((40, 4)) < (0.5, 0.3, 0.1, 0.0)
    probabilities = np.clip(0.4 * truth + 0.6 * draw.random((40, 4)), 0, 1).astype(np.float32)
    given = probabilities > 0.45
    assert truth[:, :3].any(axis=0).all() and given[:, 3].any()
    found = multi_label_metrics(probabilities, truth, tuple("abcd"), 0.45, seed=1)
    for average in ("micro", "macro"):
        expected = metrics.f1_score(truth, given, average=average, zero_division=0)
        assert found[f"{average}_f1"]["value"] == pytest.approx(expected)
    assert found["exact_match"]["value"] == pytest.approx((truth == given).all(axis=1).mean())
    ranked = [metrics.average_precision_score(truth[:, i], probabilities[:, i]) for i in range(3)]
    assert found["mean_average_precision"] == pytest.approx(np.mean(ranked))
    loss = keras.losses.BinaryCrossentropy()(truth.astype(np.float32), probabilities)
    assert found["loss"] == pytest.approx(float(loss), rel=1e-4)
    report = metrics.classification_report(
        truth, given, target_names=list("abcd"), output_dict=True, zero_division=0
    )
    for row in found["per_class"]:
        expected = report[row["name"]]
        assert row["f1"] == pytest.approx(expected["f1-score"])
        assert row["support"] == expected["support"]
    assert found["weighted"]["recall"] == pytest.approx(report["weighted avg"]["recall"])
    for name in ("micro_f1", "macro_f1", "exact_match"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    json.dumps(found)


def test_a_resample_has_the_figures_that_scikit_learn_gives_it():
    from sft_keras.tasks.text_classification.multi_label_metrics import _make_resampled_metrics

    draw = np.random.default_rng(0)
    truth, given = draw.random((2, 30, 3)) < 0.5
    positions = draw.integers(0, 30, 30)
    found = _make_resampled_metrics(given, truth)(positions)
    for average in ("micro", "macro"):
        expected = metrics.f1_score(truth[positions], given[positions], average=average)
        assert found[f"{average}_f1"] == pytest.approx(expected)


def test_weights_are_those_of_texts_that_have_a_label():
    info = DataInfo("x", ("a", "b", "c", "d"), {"train": 20}, {"train": (5, 10, 0, 20)}, {})
    stage = Stage(name="head", epochs=1, learning_rate=1e-3, label_smoothing=0.1)
    balanced = dataclasses.replace(stage, class_weights="balanced")
    np.testing.assert_allclose(positive_weights(balanced, info), [3, 1, 1, 1])
    named = dataclasses.replace(stage, class_weights={"b": 4.0})
    np.testing.assert_allclose(positive_weights(named, info), [1, 4, 1, 1])

    objective = MultiLabelObjective(info, threshold=0.5)
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(6, 4)).astype(np.float32)
    labels = (draw.random((6, 4)) < 0.5).astype(np.float32)
    each = -np.log(1 / (1 + np.exp(-logits))), -np.log(1 / (1 + np.exp(logits)))
    smooth = labels * 0.9 + 0.05
    losses = smooth * each[0] + (1 - smooth) * each[1]
    for given in (stage, balanced):
        weights = objective.training_weights(given)(tf.constant(labels))
        expected = (losses * np.where(labels > 0, positive_weights(given, info), 1)).mean()
        found = objective.loss(given)(labels, logits, sample_weight=weights)
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    plain = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    assert float(objective.loss(stage)(labels, logits)) == pytest.approx(
        float(plain(labels, logits))
    )


def test_accuracy_while_training_is_the_share_of_decisions_at_the_threshold():
    (metric,) = MultiLabelObjective(None, threshold=0.2).metrics()
    assert metric.name == "accuracy"
    logits = np.log(
        np.array([[0.19, 0.21], [0.9, 0.1]]) / (1 - np.array([[0.19, 0.21], [0.9, 0.1]]))
    )
    metric.update_state(np.array([[0.0, 0.0], [1.0, 0.0]]), logits)
    assert float(metric.result()) == 0.75


@pytest.mark.slow
def test_stored_views_have_the_labels_of_their_texts_and_not_of_other_data(recipe, tmp_path):
    task = dataclasses.replace(recipe.task, augment=TextAugment(mask=0.2, delete=0.1))
    plan = dataclasses.replace(recipe, task=task)
    plain, stored, _ = cached_views(plan, tmp_path)
    assert_views_keep_their_targets(plain, stored)
    texts, labels = recipe.data.source.train
    # Two labels change places, which leaves the groups of the split as they are.
    other = [
        ["has z" if name == "has q" else "has q" if name == "has z" else name for name in each]
        for each in labels
    ]
    changed = dataclasses.replace(plan, data=Data(source=Texts((texts, other)), batch_size=8))
    plain, stored, story = cached_views(changed, tmp_path)
    assert story.startswith("computed once")
    assert_views_keep_their_targets(plain, stored)


@pytest.mark.slow  # trains a whole run
def test_the_exported_model_says_which_labels_the_trained_one_gives(run, recipe):
    assert run.report["export"]["checked"] == 12
    assert run.report["export"]["largest_difference"] < 1e-5
    texts = ["abc q", "z", "j q z", "abc", ""]
    inputs = build_task(recipe).encoder.encode(tf.constant(texts))
    expected = run.model(inputs, training=False).numpy()
    for answer, row in zip(predict(run.run_dir, texts), expected, strict=True):
        assert answer.label is None
        np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-5)
        ranked = [CLASSES[label] for label in np.argsort(-row) if row[label] > 0.4]
        assert list(answer.labels) == ranked
        assert "labels" in answer.as_json() and "value" not in answer.as_json()
        shown = ", ".join(f"{name} {answer.probabilities[name]:.1%}" for name in ranked)
        assert answer.describe().strip() == (shown or "-")


@pytest.mark.slow  # trains a whole run
def test_the_report_counts_labels_and_shows_which_were_wrong(run):
    figures = run.report["test"]
    assert run.report["score"] == "micro_f1"
    assert sum(row["support"] for row in figures["per_class"]) == sum(
        run.report["data"]["counts"]["test"]
    )
    assert "val_accuracy" in run.history["head"]
    validation = run.report["stages"][-1]
    best = validation["best_epoch"] - 1
    if best >= 0:
        assert validation["validation"]["loss"] == pytest.approx(
            validation["history"]["val_loss"][best], rel=1e-3
        )
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert '<th class="n">labels</th>' in page and "micro F1, 95" in page
    mistakes = run.report["mistakes"]
    assert len(mistakes) == 12 - round(12 * figures["exact_match"]["value"])
    assert all(mistake["true"] != mistake["predicted"] for mistake in mistakes)
    assert not mistakes or "Test examples with the largest prediction errors" in page


@pytest.mark.parametrize("separator", [" ", "\t", "|"])
def test_any_separator_may_be_set_by_an_override(recipe, separator):
    plan = apply_overrides(recipe, [f"task.label_separator={separator}"])
    assert plan.task.label_separator == separator
    assert not plan.task.faults()
    assert TextMultiLabel(label_separator="").faults()
