"""The responses of the server, in the format of TensorFlow Serving's REST API."""

import base64
import json
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

from sft_keras.serving.app import LOG, Application
from sft_keras.serving.limits import Limits
from sft_keras.serving.model import ServedModel

PREDICT = "/v1/models/colours:predict"


@pytest.fixture(scope="module")
def model(image_run):
    return ServedModel(image_run.run_dir, "colours", Limits(), threads=2)


@pytest.fixture(scope="module")
def client(model):
    with TestClient(Application(model).starlette()) as opened:
        yield opened


@pytest.fixture(scope="module")
def signatures(image_run):
    return tf.saved_model.load(str(image_run.export_dir)).signatures


def in_base64(encoded):
    return {"b64": base64.b64encode(encoded).decode()}


def as_float32(rows, name="probabilities"):
    return np.array([row[name] for row in rows], np.float32)


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/colours/versions/1:predict"])
def test_row_and_columnar_format_match_the_signature(client, signatures, encoded_images, path):
    expected = signatures["serving_default"](image_bytes=tf.constant(encoded_images))
    expected = {name: values.numpy() for name, values in expected.items()}
    values = [in_base64(each) for each in encoded_images]
    bare = client.post(path, json={"instances": values}).json()["predictions"]
    named = client.post(path, json={"instances": [{"image_bytes": each} for each in values]}).json()
    columns = client.post(path, json={"inputs": {"image_bytes": values}}).json()["outputs"]
    assert client.post(path, json={"inputs": values}).json()["outputs"] == columns
    assert named["predictions"] == bare
    assert set(bare[0]) == set(columns) == set(expected)
    np.testing.assert_array_equal(as_float32(bare), expected["probabilities"])
    labels = [each.decode() for each in expected["label"]]
    assert [row["label"] for row in bare] == columns["label"] == labels
    assert columns["class_names"][0] == ["red", "green\n", "blü"]
    np.testing.assert_array_equal(
        np.array(columns["probabilities"], np.float32), expected["probabilities"]
    )


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.just(3)),
    seed=st.integers(0, 2**32 - 1),
    whole=st.booleans(),
    by_row=st.booleans(),
)
def test_any_pixels_match_the_signature(client, signatures, shape, seed, whole, by_row):
    pixels = np.random.default_rng(seed).uniform(-50, 300, shape).astype(np.float32)
    pixels = np.round(pixels) if whole else pixels
    values = pixels.astype(int).tolist() if whole else pixels.tolist()
    form = {"instances": values} if by_row else {"inputs": {"images": values}}
    answer = client.post(PREDICT, json={"signature_name": "images", **form})
    assert answer.status_code == 200
    expected = signatures["images"](images=tf.constant(pixels))["probabilities"].numpy()
    found = answer.json()
    found = as_float32(found["predictions"]) if by_row else found["outputs"]["probabilities"]
    np.testing.assert_array_equal(np.array(found, np.float32), expected)


def test_status_and_metadata(client):
    for path in ("/v1/models/colours", "/v1/models/colours/versions/1"):
        (version,) = client.get(path).json()["model_version_status"]
        assert version["version"] == "1" and version["state"] == "AVAILABLE"
        assert version["status"] == {"error_code": "OK", "error_message": ""}
    found = client.get("/v1/models/colours/metadata").json()
    assert found["model_spec"] == {"name": "colours", "signature_name": "", "version": "1"}
    served = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert served["method_name"] == "tensorflow/serving/predict"
    assert served["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert served["inputs"]["image_bytes"]["tensor_shape"]["dim"][0]["size"] == "-1"
    assert set(served["outputs"]) == {"label", "probabilities", "class_names"}


def test_unknown_models_are_404_and_malformed_requests_400(client):
    for path in ("/v1/models/other:predict", "/v1/models/colours/versions/2:predict"):
        answer = client.post(path, json={"instances": []})
        assert answer.status_code == 404 and "Servable not found" in answer.json()["error"]
    assert client.get("/v1/models/other").status_code == 404
    requests = [("GET", "/"), ("GET", PREDICT), ("DELETE", "/v1/models/colours")]
    requests += [("POST", "/v1/models/colours:classify"), ("PUT", "/v1/models/colours/versions/x")]
    requests += [("GET", f"/v1/models/colours/versions/{'9' * 5000}")]
    for method, path in requests:
        answer = client.request(method, path)
        assert answer.status_code == 400 and list(answer.json()) == ["error"]


GOOD = [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        (b'{"instances": ["\xff"]}', "must be UTF-8; byte 16"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", "a number is too long"),
        ([], "must be a JSON object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"inputs": [], "instances": []}, "one of the keys"),
        ({"instances": []}, "No values in 'instances'"),
        ({"inputs": []}, "No values in 'inputs'"),
        ({"instances": 1}, "'instances' must be a list"),
        ({"signature_name": "nope", "instances": [1]}, '"nope" not found'),
        ({"signature_name": 1, "instances": [1]}, "must be a string"),
        ({"instances": [{"wrong": 1}]}, "'instances'[0] must be an object with only 'image_bytes'"),
        ({"instances": [{"b64": ""}, "x"]}, "'instances'[1] must be {\"b64\""),
        ({"instances": [{"b64": ""}, {"b64": "é"}]}, "'instances'[1] is not base64"),
        ({"instances": [{"b64": "AAAAA"}]}, "'instances'[0] is not base64"),
        ({"instances": [{"b64": ""}]}, "'instances'[0] cannot be decoded: empty"),
        ({"inputs": {"image_bytes": {"b64": ""}}}, "must contain a list for 'image_bytes'"),
        ({"inputs": {"image_bytes": [], "x": []}}, "Received: 'image_bytes', 'x'"),
        ({"signature_name": "images", "instances": [1]}, "[any, any, 3]. Received: []"),
        ({"signature_name": "images", "instances": [[[[1, 2]]]]}, "Received: [1, 1, 2]"),
        ({"signature_name": "images", "instances": [[[]]]}, "Received: [1, 0]"),
        ({"signature_name": "images", "instances": [GOOD, [[["1", 2, 3]]]]}, "'instances'[1] must"),
        ({"signature_name": "images", "instances": [[[[True] * 3]]]}, "not all numbers"),
        ({"signature_name": "images", "instances": [[[[None] * 3]]]}, "not all numbers"),
        ({"signature_name": "images", "instances": [[[[1e39] * 3]]]}, "finite as float32"),
        ({"signature_name": "images", "instances": [[[[10**400] * 3]]]}, "'instances'[0] must"),
        ({"signature_name": "images", "instances": [[[[1, 2], [1]]]]}, "unequal lengths"),
        ({"signature_name": "images", "instances": [GOOD, GOOD * 2]}, "'instances'[1] must have"),
        (b'{"signature_name": "images", "instances": [[[[NaN, 1, 1]]]]}', "finite as float32"),
    ],
)
def test_bad_request_gets_a_reason_and_does_not_affect_the_next(client, body, reason):
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = client.post(PREDICT, **sent)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"] and reason in answer.json()["error"]
    assert "Traceback" not in answer.text and "node" not in answer.text
    good = client.post(PREDICT, json={"signature_name": "images", "instances": [GOOD]})
    assert good.status_code == 200


def test_damaged_image_is_located(client, encoded_images):
    values = [in_base64(each) for each in (*encoded_images[:2], encoded_images[2][:60], b"GIF8")]
    answer = client.post(PREDICT, json={"instances": values})
    assert answer.status_code == 400
    assert "'instances'[2] cannot be decoded: a damaged or truncated PNG" in answer.json()["error"]
    answer = client.post(PREDICT, json={"inputs": {"image_bytes": values[:1] + values[3:]}})
    assert "'inputs'['image_bytes'][1] cannot be decoded" in answer.json()["error"]


def small_client(image_run, threads=1, **limits):
    model = ServedModel(image_run.run_dir, "colours", Limits(**limits), threads)
    return TestClient(Application(model).starlette())


def test_too_large_requests_are_413(image_run, encoded_images):
    pixels = 32 * 32
    limits = {"body_bytes": 20_000, "instances": 3, "pixels": 2 * pixels}
    with small_client(image_run, **limits) as client:
        assert client.post(PREDICT, content=b" " * 20_000).status_code == 400
        for size in (20_001, 10**6):
            answer = client.post(PREDICT, content=b" " * size)
            assert answer.status_code == 413 and list(answer.json()) == ["error"]
        # Without a Content-Length header.
        answer = client.post(PREDICT, content=iter([b" " * 15_000] * 2))
        assert answer.status_code == 413
        many = client.post(PREDICT, json={"signature_name": "images", "instances": [GOOD] * 4})
        assert many.status_code == 413 and "at most 3 instances" in many.json()["error"]
        images = [in_base64(each) for each in encoded_images[:3]]
        assert client.post(PREDICT, json={"instances": images[:2]}).status_code == 200
        answer = client.post(PREDICT, json={"instances": images})
        assert answer.status_code == 413 and "pixels in total" in answer.json()["error"]


def test_compressed_bodies_are_rejected(client):
    answer = client.post(PREDICT, content=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415 and "gzip" in answer.json()["error"]


def test_internal_errors_are_500_without_details(client, model, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(model._batcher, "_predict", broken)
        body = {"signature_name": "images", "instances": [GOOD]}
        answer = client.post(PREDICT, json=body)
        assert answer.status_code == 500
        assert answer.json() == {"error": "The server failed to answer this request."}
    assert client.post(PREDICT, json=body).status_code == 200


def test_clients_cannot_forge_log_lines(client, monkeypatch):
    lines = []
    monkeypatch.setattr(LOG, "info", lambda message, *arguments: lines.append(message % arguments))
    client.get("/v1/models/x%0A12:00:00 200 forged%1b[2J")
    (line,) = lines
    assert line.startswith("404 GET") and "forged" in line
    assert "\n" not in line and "\x1b" not in line


def test_open_requests_are_limited(image_run, monkeypatch):
    go, call = threading.Event(), ServedModel._call
    monkeypatch.setattr(
        ServedModel, "_call", lambda self, *arguments: go.wait(20) and call(self, *arguments)
    )
    go.set()
    with small_client(image_run, open_requests=2) as client:
        go.clear()
        body = {"signature_name": "images", "instances": [GOOD]}
        statuses = []
        threads = [
            threading.Thread(
                target=lambda: statuses.append(client.post(PREDICT, json=body).status_code)
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 10
        while not statuses and time.monotonic() < until:
            time.sleep(0.01)
        assert statuses == [503]
        go.set()
        for thread in threads:
            thread.join()
        assert statuses == [503, 200, 200]
        assert client.post(PREDICT, json=body).status_code == 200
        assert json.loads(client.get("/v1/models/colours").text)
