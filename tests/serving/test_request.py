"""Parsing of requests and encoding of responses: texts, and several arguments."""

import base64
import json

import numpy as np
import pytest

from sft_keras.serving.errors import RequestError
from sft_keras.serving.limits import Limits
from sft_keras.serving.request import read_arrays, read_request
from sft_keras.serving.request_values import Argument
from sft_keras.serving.response import write_predictions

PAIR = (Argument("texts", "text"), Argument("text_pairs", "text"))


def read(body, arguments=PAIR, limits=Limits()):  # noqa: B008
    return read_arrays(read_request(json.dumps(body).encode()), arguments, limits)


def test_row_and_columnar_format_are_equivalent():
    rows = [{"text_pairs": "b", "texts": "é"}, {"texts": "", "text_pairs": "\0"}]
    columns = {"texts": ["é", ""], "text_pairs": ["b", "\0"]}
    for arrays in (read({"instances": rows}), read({"inputs": columns})):
        assert arrays["texts"].tolist() == ["é".encode(), b""]
        assert arrays["text_pairs"].tolist() == [b"b", b"\0"]


def test_texts_may_be_base64_with_or_without_padding():
    encoded = base64.b64encode("naïve".encode()).decode()
    for text in (encoded, encoded.rstrip("="), f"{encoded[:3]}\n{encoded[3:]}"):
        arrays = read({"instances": [{"b64": text}]}, PAIR[:1])
        assert arrays["texts"].tolist() == ["naïve".encode()]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"instances": ["a"]}, "must be a list of objects with 'text_pairs', 'texts'"),
        ({"instances": [{"texts": "a"}]}, r"'instances'\[0\] must be an object with"),
        ({"inputs": ["a"]}, "must be an object with 'text_pairs', 'texts'"),
        ({"inputs": {"texts": ["a"], "text_pairs": ["a", "b"]}}, "must have the same length"),
        (
            {"instances": [{"texts": "a", "text_pairs": "a"}, {"texts": "a", "text_pairs": 1}]},
            r"'instances'\[1\]\['text_pairs'\] must be a string. Received: 1",
        ),
        (
            {"inputs": {"texts": ["a", {"b64": "/w=="}], "text_pairs": ["a", "b"]}},
            r"'inputs'\['texts'\]\[1\] must be UTF-8; byte 0",
        ),
        ({"inputs": {"texts": ["\ud800"], "text_pairs": ["a"]}}, "must be UTF-8; byte 0"),
    ],
)
def test_invalid_texts_are_located(body, reason):
    with pytest.raises(RequestError, match=reason) as caught:
        read(body)
    assert caught.value.status == 400


def test_total_size_of_texts_is_limited():
    limits = Limits(text_bytes=10)
    rows = [{"texts": "é" * 2, "text_pairs": "123456"}]
    read({"instances": rows}, limits=limits)
    with pytest.raises(RequestError, match=r"at most 10 bytes\. Received: 12") as caught:
        read({"instances": [*rows, {"texts": "12", "text_pairs": ""}]}, limits=limits)
    assert caught.value.status == 413


def test_outputs_without_one_row_per_instance_need_columnar_format():
    outputs = {"label": np.array([b"a"], object), "tags": np.array([b"x", b"y"], object)}
    with pytest.raises(
        RequestError, match="'tags' does not have one row for each of the 1 instances"
    ):
        write_predictions(outputs, by_row=True, count=1)
    response = json.loads(write_predictions(outputs, by_row=False, count=1))
    assert response == {"outputs": {"label": ["a"], "tags": ["x", "y"]}}


def test_bytes_are_base64_and_a_single_output_has_no_name():
    odd = np.array([b"\xff", b"ok"], object)
    response = json.loads(write_predictions({"label": odd}, by_row=True, count=2))
    assert response == {"predictions": [{"b64": "/w=="}, "ok"]}
    response = json.loads(write_predictions({"mask_bytes": odd}, by_row=False, count=2))
    assert response == {"outputs": [{"b64": "/w=="}, {"b64": "b2s="}]}
