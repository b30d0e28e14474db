"""The requests of `benchmarks/serving_load.py` and its HTTP client."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
import urllib.parse

import numpy as np
from PIL import Image

KINDS = 24  # different valid requests
SIDE = 160  # pixels


def images() -> list[bytes]:
    """Return `KINDS` different JPEG files."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(KINDS):
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((SIDE, SIDE)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return files


def valid_bodies() -> list[bytes]:
    """Return a request body for each image."""
    encoded = (base64.b64encode(image).decode() for image in images())
    return [json.dumps({"instances": [{"b64": text}]}).encode() for text in encoded]


def invalid_requests(path: str) -> list[tuple[str, bytes, int]]:
    """Return (path, body, expected status) of each kind of invalid request."""
    truncated = base64.b64encode(images()[0][:300]).decode()
    too_many = json.dumps({"signature_name": "images", "instances": [[]] * 500}).encode()
    return [
        (path, b'{"instances": [', 400),
        (path, b'{"instances": ["\xff"]}', 400),
        (path, json.dumps({"instances": [{"b64": truncated}]}).encode(), 400),
        (path, b'{"instances": [{"b64": "AAAA"}]}', 400),
        (path, b'{"instances": [{"wrong": 1}]}', 400),
        (path, b'{"signature_name": "nope", "instances": [1]}', 400),
        (path, b'{"signature_name": "images", "instances": [[[1, 2, 3], [1]]]}', 400),
        (path, too_many, 413),
        (path.replace(":predict", "x:predict"), b"{}", 404),
    ]


class Client:
    """Sends requests sequentially over one connection."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def post(self, path: str, body: bytes) -> tuple[int, bytes, float]:
        """Return the status, the body and the latency in seconds of a response."""
        start = time.perf_counter()
        self._connection.request("POST", path, body)
        response = self._connection.getresponse()
        content = response.read()
        return response.status, content, time.perf_counter() - start


def probabilities(response: bytes) -> np.ndarray:
    """Return the probabilities of the only instance in a response body."""
    return np.array(json.loads(response)["predictions"][0]["probabilities"])
