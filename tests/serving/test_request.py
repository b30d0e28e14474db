"""From the JSON of requests to arrays, and back; of texts, and of several arguments."""

import base64
import json

import numpy as np
import pytest

from sft_keras.serving.errors import RequestError
from sft_keras.serving.limits import Limits
from sft_keras.serving.request import read_arrays, read_request
from sft_keras.serving.request_values import Argument
from sft_keras.serving.response import write_answer

PAIR = (Argument("texts", "text"), Argument("text_pairs", "text"))


def read(body, arguments=PAIR, limits=Limits()):  # noqa: B008
    return read_arrays(read_request(json.dumps(body).encode()), arguments, limits)


def test_rows_of_two_arguments_are_the_columns():
    rows = [{"text_pairs": "b", "texts": "é"}, {"texts": "", "text_pairs": "\0"}]
    columns = {"texts": ["é", ""], "text_pairs": ["b", "\0"]}
    for found in (read({"instances": rows}), read({"inputs": columns})):
        assert found["texts"].tolist() == ["é".encode(), b""]
        assert found["text_pairs"].tolist() == [b"b", b"\0"]


def test_text_may_come_in_base64_with_or_without_padding():
    encoded = base64.b64encode("naïve".encode()).decode()
    for given in (encoded, encoded.rstrip("="), f"{encoded[:3]}\n{encoded[3:]}"):
        found = read({"instances": [{"b64": given}]}, PAIR[:1])
        assert found["texts"].tolist() == ["naïve".encode()]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"instances": ["a"]}, "must be a list of objects with 'text_pairs', 'texts'"),
        ({"instances": [{"texts": "a"}]}, r"'instances'\[0\] must be an object with"),
        ({"inputs": ["a"]}, "must be an object with 'text_pairs', 'texts'"),
        ({"inputs": {"texts": ["a"], "text_pairs": ["a", "b"]}}, "must be of one length"),
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
def test_a_text_that_is_none_is_named(body, reason):
    with pytest.raises(RequestError, match=reason) as caught:
        read(body)
    assert caught.value.status == 400


def test_the_texts_of_a_request_are_limited_together():
    limits = Limits(text_bytes=10)
    rows = [{"texts": "é" * 2, "text_pairs": "123456"}]
    read({"instances": rows}, limits=limits)
    with pytest.raises(RequestError, match=r"at most 10 bytes\. Received: 12") as caught:
        read({"instances": [*rows, {"texts": "12", "text_pairs": ""}]}, limits=limits)
    assert caught.value.status == 413


def test_what_has_not_a_row_for_each_instance_is_answered_in_columns_alone():
    outputs = {"label": np.array([b"a"], object), "tags": np.array([b"x", b"y"], object)}
    with pytest.raises(RequestError, match="'tags' has not one row for each of the 1 instances"):
        write_answer(outputs, by_row=True, count=1)
    found = json.loads(write_answer(outputs, by_row=False, count=1))
    assert found == {"outputs": {"label": ["a"], "tags": ["x", "y"]}}


def test_bytes_are_written_in_base64_and_one_output_bare():
    odd = np.array([b"\xff", b"ok"], object)
    found = json.loads(write_answer({"label": odd}, by_row=True, count=2))
    assert found == {"predictions": [{"b64": "/w=="}, "ok"]}
    found = json.loads(write_answer({"mask_bytes": odd}, by_row=False, count=2))
    assert found == {"outputs": [{"b64": "/w=="}, {"b64": "b2s="}]}
