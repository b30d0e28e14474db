"""From fields of the page to an answer or a reason, whatever stands in them."""

import logging

import pytest
import tensorflow as tf

from sft_keras.demo.answer import ask
from sft_keras.inference.exported_model import ExportedModel
from sft_keras.inference.predict import predict
from sft_keras.serving.limits import Limits
from sft_keras.tasks.predictions import Prediction

PAIR = ("questions", "contexts")


class Model:
    """Says what it was asked, or fails."""

    def __init__(self, arguments, error=None):
        self.arguments, self.error, self.asked = arguments, error, []

    def predict(self, inputs):
        self.asked += inputs
        if self.error is not None:
            raise self.error
        return [Prediction(each.name, label="x") for each in inputs]


@pytest.mark.parametrize(
    ("arguments", "given", "reason"),
    [
        (("image_bytes",), [None], "Choose a picture first."),
        (("texts",), [" \n"], "Type a text first."),
        (("texts", "text_pairs"), ["a", ""], "Type the second text too."),
        (PAIR, ["", "a"], "Type a question first."),
        (PAIR, ["a", None], "Type the passage too."),
        (PAIR, ["é" * 3, "12345"], "At most 10 bytes of text are read. This has 11: shorten it."),
    ],
)
def test_what_is_missing_or_too_long_is_said_and_the_model_is_not_asked(arguments, given, reason):
    model = Model(arguments)
    assert ask(model, given, Limits(text_bytes=10)).error == reason
    assert not model.asked


def test_what_fits_is_asked_as_it_was_given():
    model = Model(PAIR)
    assert ask(model, ["é ?", "12345"], Limits(text_bytes=10)).label == "x"
    assert dict(model.asked[0].values) == {"questions": "é ?", "contexts": "12345"}


def test_a_model_that_fails_is_said_without_its_inside(caplog):
    refusing = tf.errors.InvalidArgumentError(None, None, "{{node a/b}} too odd [Op:x] name: ")
    found = ask(Model(("texts",), refusing), ["a"], Limits())
    assert found.error == "The model refuses this: too odd"
    with caplog.at_level(logging.ERROR, "sft_keras.demo"):
        found = ask(Model(("texts",), RuntimeError("secret")), ["a"], Limits())
    assert found.error == "The model failed on this. The terminal says how."
    assert "secret" in caplog.text  # there


def test_pictures_get_the_answers_of_predict_and_bad_ones_the_reason(
    image_run, encoded_images, tmp_path
):
    model = ExportedModel(image_run.run_dir)
    assert model.arguments == ("image_bytes",)
    bad = [b"", b"hello", encoded_images[0][:50]]
    for number, encoded in enumerate([*encoded_images, *bad]):
        (tmp_path / f"{number}.png").write_bytes(encoded)
    expected = list(predict(image_run.run_dir, [tmp_path]))
    assert sum(each.error is not None for each in expected) == len(bad)
    for encoded, each in zip([*encoded_images, *bad], expected):
        found = ask(model, [encoded], Limits())
        assert found.probabilities == pytest.approx(each.probabilities, abs=1e-5)
        assert found.error == (each.error and f"The picture cannot be read: {each.error}.")
    large = b"BM" + bytes(16) + (9000).to_bytes(4, "little") * 2 + bytes(50)
    assert "more than 67,108,864 pixels; scale it down" in ask(model, [large], Limits()).error
