"""What `benchmarks/serving_load.py` sends, and how."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
import urllib.parse

import numpy as np
from PIL import Image

KINDS = 24  # different good requests
SIDE = 160  # pixels


def images() -> list[bytes]:
    """Returns different JPEG files."""
    draw = np.random.default_rng(0)
    files = []
    for _ in range(KINDS):
        small = draw.integers(0, 256, (8, 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((SIDE, SIDE)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return files


def good_bodies() -> list[bytes]:
    """Returns a request for each image."""
    encoded = (base64.b64encode(each).decode() for each in images())
    return [json.dumps({"instances": [{"b64": each}]}).encode() for each in encoded]


def bad_requests(path: str) -> list[tuple[str, bytes, int]]:
    """Returns (path, body, expected status) of each kind of bad request."""
    cut = base64.b64encode(images()[0][:300]).decode()
    many = json.dumps({"signature_name": "images", "instances": [[]] * 500}).encode()
    return [
        (path, b'{"instances": [', 400),
        (path, b'{"instances": ["\xff"]}', 400),
        (path, json.dumps({"instances": [{"b64": cut}]}).encode(), 400),
        (path, b'{"instances": [{"b64": "AAAA"}]}', 400),
        (path, b'{"instances": [{"wrong": 1}]}', 400),
        (path, b'{"signature_name": "nope", "instances": [1]}', 400),
        (path, b'{"signature_name": "images", "instances": [[[1, 2, 3], [1]]]}', 400),
        (path, many, 413),
        (path.replace(":predict", "x:predict"), b"{}", 404),
    ]


class Sender:
    """Sends requests over one connection, one after the other."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def ask(self, path: str, body: bytes) -> tuple[int, bytes, float]:
        """Returns status, answer and seconds."""
        began = time.perf_counter()
        self._connection.request("POST", path, body)
        answer = self._connection.getresponse()
        found = answer.read()
        return answer.status, found, time.perf_counter() - began


def probabilities(answer: bytes) -> np.ndarray:
    """Returns those of the one instance of an answer."""
    return np.array(json.loads(answer)["predictions"][0]["probabilities"])
