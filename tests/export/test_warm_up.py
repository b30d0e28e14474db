"""Class names and warm-up requests of the SavedModel, for TensorFlow Serving."""

import json

import numpy as np
import pytest
import tensorflow as tf

from sft_keras.core.errors import ExportError
from sft_keras.export import warm_up
from sft_keras.export.saved_model import export_saved_model
from sft_keras.export.warm_up import WARM_UP, warm_up_inputs, write_warm_up
from sft_keras.tasks.image_signatures import image_signatures
from sft_keras.tasks.signatures import ServingSignatures

NAMES = ("red", "green\n", "blü")


def requests_in(folder):
    """Return the requests of a warm-up file, parsed by TensorFlow Serving's own messages."""
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(folder / WARM_UP))
    requests = []
    for record in records.as_numpy_iterator():
        log = logs.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        # No unknown fields, and the same encoding as the official one.
        assert logs.PredictionLog.FromString(log.SerializeToString(deterministic=True)) == log
        assert len(log.SerializeToString()) == len(record)
        requests.append(log.predict_log.request)
    return requests


@pytest.fixture(scope="module")
def exported(build_staged, tmp_path_factory):
    """The SavedModel of an image classifier with unusual class names."""
    folder = tmp_path_factory.mktemp("export") / "1"
    model = build_staged().model
    export_saved_model(image_signatures(model, NAMES, "stretch"), model, folder)
    return folder


def test_class_names_are_an_asset(exported):
    loaded = tf.saved_model.load(str(exported))
    path = loaded.class_names.asset_path.numpy().decode()
    assert path == str(exported / "assets" / "class_names.json")
    with open(path, encoding="utf-8") as file:
        assert tuple(json.load(file)) == NAMES


def test_each_signature_runs_on_its_warm_up_request(exported):
    loaded = tf.saved_model.load(str(exported))
    requests = {request.model_spec.signature_name: request for request in requests_in(exported)}
    assert set(requests) == set(loaded.signatures) == {"serving_default", "images"}
    for name, request in requests.items():
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        outputs = loaded.signatures[name](**{key: tf.constant(x) for key, x in inputs.items()})
        assert outputs["probabilities"].shape == (1, 3)


def test_requests_round_trip_at_any_length(tmp_path):
    # Lengths of one, two and three groups of seven bits.
    for size in (1, 127, 128, 16_383, 16_384, 300_000):
        values = {"texts": np.array([b"x" * size, b"\xff\0"], object)}
        write_warm_up(tmp_path, {"first": values, "second": {"a": np.ones((2, 3), np.float32)}})
        first, second = requests_in(tmp_path)
        assert (first.model_spec.signature_name, second.model_spec.signature_name) == (
            "first",
            "second",
        )
        np.testing.assert_array_equal(tf.make_ndarray(first.inputs["texts"]), values["texts"])
        np.testing.assert_array_equal(tf.make_ndarray(second.inputs["a"]), np.ones((2, 3)))


def test_signature_that_fails_on_its_request_is_not_exported(tmp_path, monkeypatch):
    import keras

    def picky(texts):
        with tf.control_dependencies([tf.debugging.assert_equal(texts, "please")]):
            return {"value": tf.strings.length(texts)}

    spec = tf.TensorSpec([None], tf.string, name="texts")
    signatures = ServingSignatures({"serving_default": (picky, [spec])})
    model = keras.Sequential([keras.Input((1,))])
    with pytest.raises(ExportError, match="'serving_default' must accept any input"):
        export_saved_model(signatures, model, tmp_path / "1")
    monkeypatch.setattr(warm_up, "_TEXT", b"please")
    export_saved_model(signatures, model, tmp_path / "2")
    assert len(requests_in(tmp_path / "2")) == 1


def test_examples_match_their_arguments():
    specs = [
        tf.TensorSpec([None], tf.string, name="image_bytes"),
        tf.TensorSpec([None, None, 7, 3], tf.float32, name="images"),
        tf.TensorSpec([None], tf.string, name="contexts"),
    ]
    inputs = warm_up_inputs(specs)
    assert inputs["images"].shape == (1, 32, 7, 3) and inputs["images"].dtype == np.float32
    assert tf.io.decode_png(inputs["image_bytes"][0]).shape == (32, 32, 3)
    assert inputs["contexts"][0].decode("utf-8")
