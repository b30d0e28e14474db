"""Question answering from lists to a served model: what is trained, reported and answered."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from task_cases import task_case, task_run

import sft_keras
from sft_keras import Backbone
from sft_keras.core.errors import BackboneError, RecipeError
from sft_keras.evaluation.inference import predict_batches
from sft_keras.inference.predict import predict
from sft_keras.tasks.base import build_task
from sft_keras.tasks.question_answering.decode import decode_answers

THRESHOLD = 0.5


@pytest.fixture(scope="module")
def recipe():
    return task_case("QuestionAnswering").recipe


@pytest.fixture(scope="module")
def run():
    return task_run("QuestionAnswering")


@pytest.fixture(scope="module")
def opened(recipe):
    """The info and the prepared splits."""
    splits = build_task(recipe).open_data(0)
    return splits.info, build_task(recipe, splits.info).preprocessor.preprocess(
        splits, lambda done, total: None
    )


@pytest.mark.slow  # trains a whole run
def test_the_frozen_layers_are_computed_once_for_each_window(run, opened):
    _, prepared = opened
    read = len(prepared["train"].examples) + len(prepared["validation"].examples)
    assert read > 2 * 80
    stage = run.report["stages"][0]
    assert stage["frozen_blocks"].startswith(f"computed once for {read} ")
    assert stage["audit"]["frozen_identical"]


@pytest.fixture(scope="module")
def evaluated(run, recipe, opened):
    """The answers to the test split's questions as `evaluate` has them."""
    info, prepared = opened
    test = prepared["test"]
    assert len(test.details) > 2 * len({window.question.name for window in test.details})
    logits = predict_batches(run.model, build_task(recipe, info).batches.evaluation(test))
    return decode_answers(logits, test.details, recipe.task.max_answer_length)


@pytest.mark.slow  # trains a whole run
def test_served_answers_to_passages_of_several_windows_are_those_that_were_evaluated(
    run, recipe, opened, evaluated
):
    threshold = float(np.median(evaluated.spans.null_score_diffs))  # so that there are both kinds
    expected = evaluated.texts(threshold)
    assert 0 < expected.count("") < len(expected) and len(set(expected)) > 2
    task = dataclasses.replace(recipe.task, no_answer_threshold=threshold)
    changed = dataclasses.replace(recipe, task=task)
    signatures = build_task(changed, opened[0]).exporter.signatures(run.model)
    function, specs = signatures.functions["serving_default"]
    served = tf.function(function, input_signature=specs, autograph=False)(
        tf.constant([question.question for question in evaluated.questions]),
        tf.constant([question.context for question in evaluated.questions]),
    )
    assert [text.decode() for text in served["answer"].numpy()] == expected
    places = zip(evaluated.questions, expected, served["start"].numpy(), served["end"].numpy())
    for question, text, start, end in places:
        assert question.context[start:end] == text if text else (start, end) == (-1, -1)
    for name, values in (
        ("probability", evaluated.probabilities(threshold)),
        ("probabilities", evaluated.spans.probabilities),
    ):
        np.testing.assert_allclose(served[name], values, atol=1e-5)


@pytest.mark.slow  # trains a whole run
def test_predictions_are_the_answers_that_were_evaluated(run, evaluated):
    asked = [f"{question.question}\t{question.context}" for question in evaluated.questions]
    found = list(predict(run.run_dir, asked))
    assert [each.input for each in found] == asked
    assert [each.label for each in found] == evaluated.texts(THRESHOLD)
    for each, probability in zip(found, evaluated.probabilities(THRESHOLD)):
        assert each.probabilities == {each.label: pytest.approx(probability, abs=1e-5)}
        context = each.input.partition("\t")[2]
        assert context[max(0, each.start) : max(0, each.end)] == each.label
    right = [
        question.answers[0].text if question.answers else "" for question in evaluated.questions
    ]
    is_right = [each.label == text for each, text in zip(found, right)]
    assert run.metrics["exact_match"]["value"] == pytest.approx(np.mean(is_right))
    assert run.metrics["examples"] == 16


@pytest.mark.slow  # trains a whole run
def test_it_answers_alike_in_a_process_that_knows_tensorflow_alone(run):
    export = run.report["export"]
    assert export["checked"] == 16
    assert export["largest_difference"] < 1e-5
    assert export["needs"] == []
    assert export["signatures"] == {
        "serving_default": "questions: string (None,), contexts: string (None,)"
    }


@pytest.mark.slow
def test_questions_are_asked_on_the_command_line(run):
    ran = subprocess.run(
        [sys.executable, "-m", "sft_keras.predict", f"--run={run.run_dir}", "-"],
        input="q?\tabc q12 def\nz?\t\n",
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = ran.stdout.splitlines()
    assert first.endswith("  q?") and "%" in first
    assert "(no answer)" in second and second.endswith("  z?")
    assert "\t" not in ran.stdout


@pytest.mark.slow  # trains a whole run
def test_empty_and_odd_passages_are_answered(run):
    odd = ["q?\t", "\tabc", "q?\t\u4e2d\u6587 q12", "q" * 40 + "\tabc", "no tab"]
    *good, bad = predict(run.run_dir, odd)
    assert (good[0].label, good[0].start, good[0].end) == ("", -1, -1)
    assert all(each.error is None and each.label in each.input for each in good)
    assert "a tab between" in bad.error


@pytest.mark.slow  # trains a whole run
def test_the_report_has_the_figures_and_shows_mistakes(run):
    stage = run.report["stages"][0]["validation"]
    assert {"threshold", "f1"} == stage["best_threshold"].keys()
    assert stage["best_threshold"]["f1"] >= stage["f1"]["value"] - 1e-9
    assert "best_threshold" not in run.metrics
    assert run.metrics["answerable_f1"]["value"] is not None
    facts = run.report["inputs"]["train"]
    assert facts["texts"] == 64 and facts["windows"] > 128 and facts["cut_off"] == 0
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert "split into overlapping windows" in page and "truncated at the end" not in page
    assert "unanswerable F1" in page
    (first, *_) = run.report["mistakes"]
    assert first["true"] != first["predicted"]
    assert first["text"].split("\n")[0] in ("q?", "z?") and first["text"].split("\n")[1] in page


def test_answers_at_the_right_places_score_one(recipe, opened):
    info, prepared = opened
    for split in prepared.values():
        y = split.targets.take(tf.range(len(split.targets))).numpy()
        figures = build_task(recipe, info).evaluator.evaluate(9.0 * y, split)
        assert figures["exact_match"]["value"] == figures["exact_match"]["high"] == 1.0
        assert 0.5 < figures["exact_match"]["low"] < 1.0  # few questions do not make it certain
        assert figures["examples"] == len({window.question.name for window in split.details})
        assert figures["loss"] < 0.01


def test_the_targets_are_marked_where_they_can_be(opened):
    _, prepared = opened
    split = prepared["train"]
    y = split.targets.take(tf.range(len(split.targets))).numpy()
    found = 0
    for row, window in zip(y, split.details):
        last = window.passage_start + window.passage_length
        can_be = [place == 0 or window.passage_start <= place < last for place in range(len(row))]
        np.testing.assert_array_equal(row[:, 0] >= 0, can_be)
        np.testing.assert_array_equal(row[:, 1] >= 0, can_be)
        assert row[:, 0].max() == row[:, 1].max() == 1 and (row == 1).sum() == 2
        start, end = row.argmax(axis=0)
        if start:
            own = slice(
                window.passage.char_starts[start - window.passage_start + window.passage_offset],
                window.passage.char_ends[end - window.passage_start + window.passage_offset],
            )
            assert window.passage.text[own] == window.question.answers[0].text
            found += 1
    assert found >= 48
    short = split.targets.subset(np.array([3, 1])).take(tf.constant([1, 0]), tf.constant(16))
    np.testing.assert_array_equal(short, y[[1, 3], :16])


def test_recipes_that_cannot_work_are_refused(recipe, monkeypatch):
    task = dataclasses.replace(recipe.task, doc_stride=30)
    with pytest.raises(RecipeError, match=r"`task.doc_stride` must be at most .* \(21\)"):
        dataclasses.replace(recipe, task=task).validate()
    task = dataclasses.replace(recipe.task, max_question_length=29)
    with pytest.raises(RecipeError, match=r"`task.sequence_length` must be above .* \(32\)"):
        dataclasses.replace(recipe, task=task).validate()
    stage = dataclasses.replace(recipe.stages[0], label_smoothing=0.1, class_weights="balanced")
    with pytest.raises(RecipeError) as caught:
        dataclasses.replace(recipe, stages=(stage,)).validate()
    assert "`stages.head.class_weights`" in str(caught.value)
    assert "`stages.head.label_smoothing`" in str(caught.value)

    class RobertaTokenizer:
        pad_token_id = start_token_id = end_token_id = mask_token_id = 0

        def __call__(self, texts):
            raise AssertionError("nothing is tokenized before the backbone is known to fit")

    from sft_keras.text import encoder

    monkeypatch.setattr(encoder, "text_preset", lambda backbone: "x")
    monkeypatch.setattr(encoder, "load_hub_tokenizer", lambda preset: RobertaTokenizer())
    wrong = dataclasses.replace(recipe, backbone=Backbone(preset="hub:roberta_base_en"))
    with pytest.raises(BackboneError, match=r"must have a WordPiece tokenizer.*'hub:roberta_base"):
        build_task(wrong).build_backbone()


def test_the_smoke_run_needs_neither_questions_nor_weights(recipe):
    for plan in (sft_keras.load_recipe("bert_squad").recipe, recipe):
        smoke = plan.task.smoke_recipe(plan)
        smoke.validate()
        assert (smoke.data.source, smoke.backbone.preset) == ("synthetic:30", "tiny:bert")


def test_where_each_question_has_an_answer_one_is_always_given(recipe, opened):
    info, prepared = opened
    info = dataclasses.replace(info, class_names=())
    test = prepared["test"]
    logits = np.zeros((len(test.details), 32, 2), np.float32)
    evaluator = build_task(recipe, info).evaluator
    logits[:, 0] = 50.0  # sure that there is none
    assert evaluator.evaluate(logits, test).keys() == {*("examples", "exact_match", "f1", "loss")}
    mistakes = evaluator.report_examples(logits, test).mistakes
    assert mistakes and not any(each["predicted"] == "(no answer)" for each in mistakes)
