"""Probabilities that can be believed, without a prediction being changed."""

import numpy as np
import pytest

from sft_keras.evaluation.calibration import apply_temperature, calibration, fit_temperature


@pytest.fixture(scope="module")
def drawn():
    """Probabilities whose logits are 2.5 times as large as those that labels were drawn by."""
    draw = np.random.default_rng(0)
    logits = draw.normal(0.0, 1.5, (20_000, 4))
    wanted = apply_temperature(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1.0)
    labels = (draw.random((len(logits), 1)) > wanted.cumsum(axis=1)).sum(axis=1)
    given = np.exp(2.5 * logits) / np.exp(2.5 * logits).sum(axis=1, keepdims=True)
    return given.astype(np.float32), wanted, labels


def test_the_temperature_that_spoiled_probabilities_is_found(drawn):
    given, wanted, labels = drawn
    temperature = fit_temperature(given, labels)
    assert temperature == pytest.approx(2.5, rel=0.03)
    np.testing.assert_allclose(apply_temperature(given, 2.5), wanted, atol=1e-5)
    assert calibration(given, labels)["error"] > 0.15
    assert calibration(apply_temperature(given, temperature), labels)["error"] < 0.02


def test_no_prediction_is_changed_and_a_temperature_can_be_taken_back(drawn):
    given, _, _ = drawn
    cooler = apply_temperature(given, 2.5)
    np.testing.assert_array_equal(cooler.argmax(axis=1), given.argmax(axis=1))
    np.testing.assert_allclose(apply_temperature(cooler, 1 / 2.5), given, atol=1e-5)


def test_the_error_is_the_distance_of_trust_from_truth():
    # Eight in ten of those with 0.9 are right, and half of those with 0.6.
    confidence = np.array([0.9] * 10 + [0.6] * 10)
    is_right = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = calibration(probabilities, np.where(is_right, 0, 1))
    assert found["error"] == pytest.approx((10 * 0.1 + 10 * 0.1) / 20)
    assert [each["count"] for each in found["bins"]] == [10, 10]
    assert [each["accuracy"] for each in found["bins"]] == [0.5, 0.8]


@pytest.mark.parametrize("label", [0, 1])
def test_without_mistakes_or_without_hits_nothing_is_changed(label):
    probabilities = np.array([[0.8, 0.2], [0.7, 0.3], [0.9, 0.1]])
    assert fit_temperature(probabilities, np.full(3, label)) == 1.0


def test_probabilities_of_0_and_1_are_taken():
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    found = calibration(apply_temperature(certain, 3.0), np.array([0, 0, 1, 1]))
    assert np.isfinite(found["error"]) and found["bins"][-1]["to"] == 1.0
    assert np.isfinite(fit_temperature(certain, np.array([0, 0, 1, 1])))
