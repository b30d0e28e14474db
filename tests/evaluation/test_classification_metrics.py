"""Figures of a classifier against scikit-learn called by hand, and their intervals."""

import warnings

import numpy as np
import pytest
from sklearn import metrics

from sft_keras.evaluation.bootstrap import wilson_interval
from sft_keras.evaluation.classification import classification_metrics

NAMES = ("rose", "tulip", "daisy", "weed")


def guesses(count, num_classes, skill=1.0, seed=0):
    """Probabilities, float32 [n, num_classes], that lean towards the labels by `skill`."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, count)
    logits = random.normal(size=(count, num_classes)) + skill * np.eye(num_classes)[labels]
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32), labels


def figures(shares, labels, names=NAMES, top_k=2, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return classification_metrics(shares, labels, names, top_k, seed)


def test_every_figure_is_scikit_learns():
    shares, labels = guesses(200, 4)
    received, predicted = figures(shares, labels), shares.argmax(axis=1)
    assert received["examples"] == 200
    assert received["accuracy"]["value"] == metrics.accuracy_score(labels, predicted)
    assert received["macro_f1"]["value"] == metrics.f1_score(labels, predicted, average="macro")
    assert received["top_k"] == {"2": metrics.top_k_accuracy_score(labels, shares, k=2)}
    expected_loss = -np.log(shares[np.arange(200), labels].astype(np.float64)).mean()
    assert received["loss"] == pytest.approx(expected_loss, rel=1e-6)
    confusion = metrics.confusion_matrix(labels, predicted)
    assert received["confusion_matrix"] == confusion.tolist()
    assert np.not_equal(confusion, confusion.T).any()  # so rows and columns are told apart
    for average in ("macro", "weighted"):
        assert received[average] == {
            "precision": metrics.precision_score(labels, predicted, average=average),
            "recall": metrics.recall_score(labels, predicted, average=average),
            "f1": metrics.f1_score(labels, predicted, average=average),
        }
    for index, each in enumerate(received["per_class"]):
        one = {"labels": [index], "average": None}
        assert each == {
            "name": NAMES[index],
            "precision": metrics.precision_score(labels, predicted, **one).item(),
            "recall": metrics.recall_score(labels, predicted, **one).item(),
            "f1": metrics.f1_score(labels, predicted, **one).item(),
            "support": (labels == index).sum(),
        }


def test_classes_that_do_not_occur_count_as_0_and_keep_their_place():
    shares = np.eye(4)[[0, 0, 2, 2]] * 0.7 + 0.075
    received = figures(shares, np.array([0, 0, 2, 0]))
    # rose: 2 of 3 found, 2 of 2 right; daisy: 1 of 1 found, 1 of 2 right
    assert [each["f1"] for each in received["per_class"]] == pytest.approx([0.8, 0, 2 / 3, 0])
    assert [each["support"] for each in received["per_class"]] == [3, 0, 1, 0]
    assert received["macro_f1"]["value"] == pytest.approx((0.8 + 2 / 3) / 4)
    assert received["accuracy"]["value"] == 0.75
    assert received["confusion_matrix"] == [[2, 0, 1, 0], [0] * 4, [0, 0, 1, 0], [0] * 4]


@pytest.mark.parametrize(("num_classes", "top_k"), [(3, 5), (3, 3), (2, 2)])
def test_top_k_is_left_out_unless_there_are_more_classes(num_classes, top_k):
    shares, labels = guesses(20, num_classes)
    assert figures(shares, labels, NAMES[:num_classes], top_k)["top_k"] == {}


@pytest.mark.parametrize("skill", [0.0, 1.5, 9.0])
@pytest.mark.parametrize(("count", "num_classes"), [(12, 4), (40, 10), (40, 40), (400, 3)])
def test_an_interval_holds_its_value(count, num_classes, skill):
    # Few examples a class are the hard case: a resample lacks some classes altogether.
    shares, labels = guesses(count, num_classes, skill)
    received = figures(shares, labels, tuple(map(str, range(num_classes))))
    for name in ("accuracy", "macro_f1"):
        interval = received[name]
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1


def test_an_interval_narrows_with_the_root_of_the_examples():
    def width(count, name):
        received = figures(*guesses(count, 4))[name]
        return received["high"] - received["low"]

    for name in ("accuracy", "macro_f1"):
        assert width(100, name) / width(1600, name) == pytest.approx(4.0, rel=0.25)


def test_the_interval_of_accuracy_is_about_that_of_the_normal_distribution():
    received = figures(*guesses(1000, 4))["accuracy"]
    share = received["value"]
    margin = 1.96 * np.sqrt(share * (1 - share) / 1000)
    assert received["low"] == pytest.approx(share - margin, abs=0.005)
    assert received["high"] == pytest.approx(share + margin, abs=0.005)


def test_one_seed_gives_one_interval_and_another_seed_another():
    shares, labels = guesses(100, 4)
    assert figures(shares, labels, seed=3) == figures(shares, labels, seed=3)
    first, second = (figures(shares, labels, seed=seed)["macro_f1"] for seed in (3, 4))
    assert first["value"] == second["value"]
    assert first != second


def test_half_precision_probabilities_are_taken():
    shares, labels = guesses(50, 4)
    received = figures(shares.astype(np.float16), labels)
    assert received["loss"] == pytest.approx(figures(shares, labels)["loss"], rel=1e-3)


@pytest.mark.parametrize("count", [1, 20, 500])
def test_a_perfect_score_is_not_certain(count):
    labels = np.arange(count) % 3
    received = figures(np.eye(3)[labels], labels, NAMES[:3])
    # Wilson's bound at n out of n.
    low = count / (count + 1.959964**2)
    assert received["accuracy"] == {"value": 1.0, "low": pytest.approx(low), "high": 1.0}
    if count > 2:
        assert received["macro_f1"] == {"value": 1.0, "low": pytest.approx(low), "high": 1.0}


def test_a_score_of_zero_is_not_certain():
    labels = np.zeros(20, int)
    received = figures(np.eye(3)[labels + 1], labels, NAMES[:3])
    for name in ("accuracy", "macro_f1"):
        assert received[name]["low"] == received[name]["value"] == 0
        assert received[name]["high"] == pytest.approx(1.959964**2 / (20 + 1.959964**2))


def test_the_wilson_interval_is_that_of_the_literature():
    # scipy's implementation as the reference.
    from scipy.stats import binomtest

    for right, count in [(0, 7), (3, 9), (19, 20), (20, 20), (811, 1000)]:
        expected = binomtest(right, count).proportion_ci(method="wilson")
        received = wilson_interval(right / count, count)
        assert received["low"] == pytest.approx(expected.low, abs=1e-6)
        assert received["high"] == pytest.approx(expected.high, abs=1e-6)
