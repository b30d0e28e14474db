"""The loss of windows, the figures of answers, the best threshold, and which mistakes are shown."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from sft_keras.tasks.question_answering.decode import PredictedAnswers, Spans
from sft_keras.tasks.question_answering.examples import Answer, Question
from sft_keras.tasks.question_answering.metrics import (
    answer_examples,
    best_threshold,
    question_answering_metrics,
)
from sft_keras.tasks.question_answering.targets import (
    SpanCrossentropy,
    SpanTargets,
    mean_span_loss,
    span_accuracy,
)


def test_places_that_can_be_no_answer_never_count():
    targets = SpanTargets(
        np.array([[3, 4], [0, 0]], np.int32), np.array([[2, 3], [2, 4]], np.int32), 8
    )
    y = targets.take(tf.range(2))
    logits = np.random.default_rng(0).normal(size=(2, 8, 2)).astype(np.float32)
    rows = [[0, 2, 3, 4], [0, 2, 3, 4, 5]]
    expected = []
    for number, places in enumerate(rows):
        own = np.exp(logits[number, places])
        right = own[[places.index(3), places.index(4)], [0, 1]] if number == 0 else own[0]
        expected.append(-np.log(right / own.sum(axis=0)).mean())
    loss = SpanCrossentropy(reduction="none")
    np.testing.assert_allclose(loss(y, logits), expected, rtol=1e-5)
    logits[:, [1, 6, 7]] = 99.0
    logits[0, 5] = 99.0
    np.testing.assert_allclose(loss(y, logits), expected, rtol=1e-5)
    assert mean_span_loss(logits, targets) == pytest.approx(np.mean(expected), rel=1e-5)
    logits[0, 3, 0] = logits[0, 4, 1] = logits[1, 0, 0] = 50.0
    logits[1, 2, 1] = 50.0
    np.testing.assert_array_equal(span_accuracy(y, logits), [1.0, 0.0])


def question_of(name, text):
    answers = (Answer(text, 0),) if text else ()
    return Question(name, "ab cd ef", "?", answers)


def answered(rights, starts, ends, margins):
    """Answers of a model to questions on the passage "ab cd ef"."""
    probabilities = np.linspace(0.1, 0.9, len(rights))
    return PredictedAnswers(
        [question_of(f"q{number}", right) for number, right in enumerate(rights)],
        Spans(
            np.array(starts),
            np.array(ends),
            np.array(margins),
            np.stack([probabilities, 1 - probabilities], axis=1),
        ),
    )


def test_figures_are_over_all_questions_and_those_of_either_kind():
    found = answered(["ab", "ab", "ab", ""], [0, 0, 3, 0], [2, 5, 5, 2], [-1.0] * 4)
    figures = question_answering_metrics(found, None, seed=0)
    assert figures["exact_match"]["value"] == 0.25
    assert figures["f1"]["value"] == pytest.approx((1 + 2 / 3) / 4)
    assert 0.0 <= figures["f1"]["low"] < figures["f1"]["value"] < figures["f1"]["high"] <= 1.0
    assert question_answering_metrics(found, None, seed=0) == figures
    assert figures.keys() == {"examples", "exact_match", "f1"}
    split = question_answering_metrics(found, 0.0, seed=0)
    assert split["answerable_f1"]["value"] == pytest.approx((1 + 2 / 3) / 3)
    assert split["unanswerable_f1"]["value"] == 0.0
    assert question_answering_metrics(found, -2.0, seed=0)["unanswerable_f1"]["value"] == 1.0
    every = question_answering_metrics(answered(["ab"], [0], [2], [0.0]), 0.0, seed=0)
    assert every["unanswerable_f1"] == {"value": None, "low": None, "high": None}


def test_the_best_threshold_is_that_of_trying_all():
    draw = np.random.default_rng(0)
    for _ in range(20):
        margins = draw.choice([-2.0, -1.0, 0.5, 3.0, np.inf], 12)
        rights, scores = draw.random(12), (draw.random(12) < 0.4).astype(float)
        found = best_threshold(margins, rights, scores)

        def mean(threshold, margins=margins, rights=rights, scores=scores):
            return np.where(margins <= threshold, rights, scores).mean()

        assert found["f1"] == pytest.approx(max(map(mean, (-9.0, -1.5, 0.0, 1.0, 9.0))))
        assert mean(found["threshold"]) == pytest.approx(found["f1"])
    never = best_threshold(np.array([np.inf]), np.zeros(1), np.ones(1))
    assert never == {"threshold": 0.0, "f1": 1.0}


def test_mistakes_are_shown_with_the_passage_around_them():
    context = "x" * 300 + " wrong " + "y" * 300 + " right"
    question = Question("q", context, "which?", (Answer("right", 608), Answer("a right", 608)))
    right = dataclasses.replace(question, name="r")
    spans = Spans(
        np.array([301, 608]), np.array([306, 613]), np.zeros(2), np.array([[0.7, 0.1], [0.9, 0.0]])
    )
    shown = answer_examples(PredictedAnswers([question, right], spans), None)
    (row,) = shown.mistakes
    assert (row["id"], row["predicted"], row["true"]) == ("q", "wrong", "right | a right")
    assert row["probability"] == 0.7
    asked, passage = row["text"].split("\n")
    assert asked == "which?"
    assert passage.startswith("… x") and passage.endswith("y …") and " wrong " in passage
    assert len(passage) <= 204
    assert [each["id"] for each in shown.uncertain] == ["q", "r"]  # the least probable first
    assert [each["right"] for each in shown.uncertain] == [False, True]
    (none, _) = answer_examples(PredictedAnswers([question, right], spans), -1.0).mistakes
    assert none["predicted"] == "(no answer)" and none["text"].endswith("right")
