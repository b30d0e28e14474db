"""Predictions for the fields of the page, or the reason for a failure, for any content."""

import logging

import pytest
import tensorflow as tf

from sft_keras.demo.answer import predict_fields
from sft_keras.inference.exported_model import ExportedModel
from sft_keras.inference.predict import predict
from sft_keras.serving.limits import Limits
from sft_keras.tasks.predictions import Prediction

PAIR = ("questions", "contexts")


class Model:
    """Records its inputs, or fails."""

    def __init__(self, arguments, error=None):
        self.arguments, self.error, self.inputs = arguments, error, []

    def predict(self, inputs):
        self.inputs += inputs
        if self.error is not None:
            raise self.error
        return [Prediction(item.name, label="x") for item in inputs]


@pytest.mark.parametrize(
    ("arguments", "fields", "reason"),
    [
        (("image_bytes",), [None], "Choose an image first."),
        (("texts",), [" \n"], "Enter a text first."),
        (("texts", "text_pairs"), ["a", ""], "Enter the second text too."),
        (PAIR, ["", "a"], "Enter a question first."),
        (PAIR, ["a", None], "Enter the passage too."),
        (PAIR, ["é" * 3, "12345"], "The text may have at most 10 bytes. It has 11: shorten it."),
    ],
)
def test_missing_or_long_fields_are_reported_without_a_prediction(arguments, fields, reason):
    model = Model(arguments)
    assert predict_fields(model, fields, Limits(text_bytes=10)).error == reason
    assert not model.inputs


def test_valid_fields_reach_the_model_unchanged():
    model = Model(PAIR)
    assert predict_fields(model, ["é ?", "12345"], Limits(text_bytes=10)).label == "x"
    assert dict(model.inputs[0].values) == {"questions": "é ?", "contexts": "12345"}


def test_failures_are_reported_without_internal_details(caplog):
    rejection = tf.errors.InvalidArgumentError(None, None, "{{node a/b}} too odd [Op:x] name: ")
    prediction = predict_fields(Model(("texts",), rejection), ["a"], Limits())
    assert prediction.error == "The model rejects this input: too odd"
    with caplog.at_level(logging.ERROR, "sft_keras.demo"):
        prediction = predict_fields(Model(("texts",), RuntimeError("secret")), ["a"], Limits())
    assert prediction.error == "The model failed on this input. See the terminal."
    assert "secret" in caplog.text  # there


def test_images_match_predict_and_bad_ones_get_a_reason(image_run, encoded_images, tmp_path):
    model = ExportedModel(image_run.run_dir)
    assert model.arguments == ("image_bytes",)
    bad = [b"", b"hello", encoded_images[0][:50]]
    for number, encoded in enumerate([*encoded_images, *bad]):
        (tmp_path / f"{number}.png").write_bytes(encoded)
    expected = list(predict(image_run.run_dir, [tmp_path]))
    assert sum(item.error is not None for item in expected) == len(bad)
    for encoded, item in zip([*encoded_images, *bad], expected):
        prediction = predict_fields(model, [encoded], Limits())
        assert prediction.probabilities == pytest.approx(item.probabilities, abs=1e-5)
        assert prediction.error == (item.error and f"The image cannot be read: {item.error}.")
    large = b"BM" + bytes(16) + (9000).to_bytes(4, "little") * 2 + bytes(50)
    assert (
        "more than 67,108,864 pixels; scale it down"
        in predict_fields(model, [large], Limits()).error
    )
