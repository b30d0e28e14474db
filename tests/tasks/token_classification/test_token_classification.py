"""Named entities from tagged words to a served model: what is trained, counted and answered."""

import dataclasses
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from seqeval.metrics import f1_score, precision_score, recall_score
from task_cases import task_case, task_run

from sft_keras import Data, TaggedWords
from sft_keras.core.errors import DataError, RecipeError
from sft_keras.evaluation.inference import predict_batches
from sft_keras.inference.predict import predict
from sft_keras.tasks.base import build_task
from sft_keras.tasks.token_classification.decode import predicted_tags, tag_loss
from sft_keras.tasks.token_classification.metrics import entity_metrics
from sft_keras.tasks.token_classification.source import tag_names

TYPES = ("PER", "PLACE")
TAGS = tag_names(TYPES)


@pytest.fixture(scope="module")
def recipe():
    return task_case("TokenClassification").recipe


@pytest.fixture(scope="module")
def run():
    return task_run("TokenClassification")


@pytest.fixture(scope="module")
def opened(recipe):
    """The splits, and what is batched from them."""
    splits = build_task(recipe).open_data(recipe.seed)
    return splits, build_task(recipe, splits.info).preprocessor.preprocess(
        splits, lambda done, total: None
    )


@pytest.mark.slow  # trains a whole run
def test_entities_are_learnt_on_frozen_layers_and_counted_per_type(run):
    assert run.metrics["f1"]["value"] > 0.9
    assert [each["name"] for each in run.metrics["per_class"]] == list(TYPES)
    assert sum(each["support"] for each in run.metrics["per_class"]) == run.metrics["entities"]
    data = run.report["data"]
    assert sum(data["counts"]["test"]) == run.metrics["entities"]
    assert data["sizes"] == {"train": 160, "validation": 20, "test": 20}
    for stage in run.report["stages"]:
        assert stage["frozen_blocks"].startswith("computed once for 180 examples")
        assert stage["audit"]["frozen_identical"]
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert "Test F1" in page and '<th class="n">entities</th>' in page
    assert ">Text lengths</h2>" in page and "Confusion matrix" not in page


def test_padding_and_other_pieces_count_neither_in_the_loss_nor_in_the_accuracy(recipe, opened):
    splits, prepared = opened[0], opened[1]["test"]
    task = build_task(recipe, splits.info)
    batches = list(task.batches.evaluation(prepared))
    draw = np.random.default_rng(0)
    loss, metric = task.objective.loss(recipe.stages[0]), task.objective.metrics()[0]
    for _, y, weights in batches:
        logits = draw.normal(size=y.shape).astype(np.float32)
        is_tagged = y.numpy().sum(axis=-1) == 1
        chosen = keras.losses.categorical_crossentropy(
            y.numpy()[is_tagged], logits[is_tagged], from_logits=True
        )
        other = np.where(is_tagged[..., None], logits, 100 * logits)
        for each in (logits, other):
            found = loss(y, tf.constant(each), sample_weight=weights)
            np.testing.assert_allclose(found, np.mean(chosen), rtol=1e-5)
            metric.reset_state()
            metric.update_state(y, each)
            hits = y.numpy()[is_tagged].argmax(-1) == logits[is_tagged].argmax(-1)
            np.testing.assert_allclose(metric.result(), hits.mean(), rtol=1e-6)
    tagged = sum(int(weights.numpy().sum()) for *_, weights in batches)
    assert tagged == sum(len(each.words) for each in prepared.details)


def test_figures_are_those_of_seqeval(recipe, opened):
    splits, prepared = opened[0], opened[1]["validation"]
    outputs = np.random.default_rng(1).dirichlet(np.ones(5), (20, 48)).astype(np.float32)
    true = [[TAGS[tag] for tag in each.tags] for each in prepared.details]
    guess = predicted_tags(outputs, prepared, TAGS)
    figures = build_task(recipe, splits.info).evaluator.evaluate(outputs, prepared)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert figures[name]["value"] == pytest.approx(score(true, guess))
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
    assert figures["loss"] == tag_loss(outputs, prepared)
    assert figures["macro"]["f1"] == pytest.approx(f1_score(true, guess, average="macro"))


def test_an_entity_must_be_right_at_both_ends_and_in_its_type():
    true = [["B-A", "I-A", "O", "B-B", "O", "B-A"]]
    guess = [["B-A", "O", "O", "B-A", "O", "B-A"]]
    figures = entity_metrics(true, guess, ("A", "B", "C"), 0)
    assert figures["f1"]["value"] == pytest.approx(1 / 3)
    assert [each["support"] for each in figures["per_class"]] == [2, 1, 0]
    nothing = entity_metrics([["O"]], [["O"]], ("A",), 0)
    assert nothing["f1"]["value"] == nothing["f1"]["low"] == 0.0
    assert nothing["f1"]["high"] > 0.0  # one sentence proves nothing


@pytest.mark.slow  # trains a whole run
def test_the_exported_model_finds_the_entities_that_evaluation_counted(run, recipe, opened):
    splits, prepared = opened[0], opened[1]["test"]
    batches = build_task(recipe, splits.info).batches.evaluation(prepared)
    outputs = predict_batches(run.model, batches)
    expected = []
    for number, tags in enumerate(predicted_tags(outputs, prepared, TAGS)):
        words = prepared.details[number].words
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        for place, tag in enumerate(tags):
            if tag.startswith("B-"):
                last = place
                while last + 1 < len(tags) and tags[last + 1] == f"I-{tag[2:]}":
                    last += 1
                end = starts[last] + len(words[last])
                expected.append((number, tag[2:], int(starts[place]), int(end)))
    texts = [" ".join(each.words) for each in prepared.details]
    loaded = tf.saved_model.load(str(run.export_dir))
    for name in ("serving_default", "spaced_words"):
        found = loaded.signatures[name](tf.constant(texts))
        columns = (found["text_index"], found["label"], found["start"], found["end"])
        rows = list(zip(*(column.numpy().tolist() for column in columns)))
        assert [(row, label.decode(), start, end) for row, label, start, end in rows] == expected
        parts = [texts[row][start:end].encode() for row, _, start, end in rows]
        assert found["text"].numpy().tolist() == parts
    assert run.report["export"]["checked"] == 20 and run.report["export"]["needs"] == []


@pytest.mark.slow  # trains a whole run
def test_predictions_have_places_in_the_text_as_it_was_written(run):
    (found,) = predict(run.run_dir, ["(abc) qq x, z."])
    assert [(each.label, each.text, each.start, each.end) for each in found.entities] == [
        ("PER", "qq x", 6, 10),
        ("PLACE", "z", 12, 13),
    ]
    assert "PLACE" in found.lines()[1] and "(12 to 13)" in found.lines()[1]
    command = [sys.executable, "-m", "sft_keras.predict", f"--run={run.run_dir}", "--json"]
    ran = subprocess.run([*command, "z", "abc"], capture_output=True, text=True, check=True)
    first, second = map(json.loads, ran.stdout.splitlines())
    assert first["entities"][0]["text"] == "z" and first["input"] == "z"
    assert second == {"input": "abc", "entities": [], "error": None}


def test_mistakes_show_the_words_with_what_they_are_and_were_taken_for(recipe, opened):
    splits, prepared = opened[0], opened[1]["test"]
    outputs = np.zeros((20, 48, 5), np.float32)
    outputs[..., TAGS.index("B-PER")] = 1.0
    shown = build_task(recipe, splits.info).evaluator.report_examples(outputs, prepared)
    assert shown.pictures == [] and shown.mistakes and len(shown.uncertain) == 12
    for row in shown.mistakes + shown.uncertain:
        number = prepared.examples.ids.index(row["id"])
        words = prepared.details[number].words
        assert " ".join(part["text"] for part in row["marked"]) == " ".join(words)
        right = [part for part in row["marked"] if part["right"]]
        assert all(part["true"] == "PER" and " " not in part["text"] for part in right)


def test_what_cannot_be_trained_on_is_said_before_the_work(recipe):
    def listed(source, **changes):
        task = dataclasses.replace(recipe.task, **changes)
        plan = dataclasses.replace(recipe, task=task, data=Data(source=source))
        return build_task(plan).open_data(0)

    with pytest.raises(DataError, match=r"one tag per word. Received: 2 words, 1 tags"):
        listed(TaggedWords(([["a", "b"]], [["O"]])))
    with pytest.raises(DataError, match=r"Tags must be O, or such as B-TYPE. Received: 'PER'"):
        listed(TaggedWords(([["a"]], [["PER"]])))
    with pytest.raises(DataError, match=r"must tag at least one entity.*every word is tagged 'O'"):
        listed(TaggedWords(([["a"]] * 9, [["O"]] * 9)))
    with pytest.raises(DataError, match=r"at least 3 training examples.*Received: 2"):
        listed(TaggedWords(([["a"]] * 2, [["B-X"]] * 2)))
    with pytest.raises(DataError, match=re.compile("'test' split has classes.*'Y'")):
        listed(TaggedWords(([["a"]] * 9, [["B-X"]] * 9), test=([["a"]], [["B-Y"]])))
    weighted = dataclasses.replace(recipe.stages[0], class_weights="balanced")
    with pytest.raises(RecipeError, match=r"`stages.head.class_weights` is not supported"):
        dataclasses.replace(recipe, stages=(weighted,)).validate()
