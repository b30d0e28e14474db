"""The page as browsers request it, and its predictions for each task."""

import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("gradio")
pytest.importorskip("starlette")

import tensorflow as tf
from gradio import processing_utils
from gradio.utils import get_upload_folder
from starlette.testclient import TestClient
from task_cases import task_run

from sft_keras.demo.header import About, read_about
from sft_keras.demo.page import application, build_page
from sft_keras.inference.exported_model import ExportedModel
from sft_keras.serving.limits import Limits

HOSTILE = "</title><script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(image_run):
    return build_page(ExportedModel(image_run.run_dir), About(HOSTILE, ("a & b",)), Limits())


@pytest.fixture(scope="module")
def client(page):
    with TestClient(application(page, max_upload_mb=1)) as opened:
        yield opened


def uploaded(client, content, name="a.png"):
    answer = client.post("/gradio_api/upload", files={"files": (name, content)})
    return answer.json()[0] if answer.status_code == 200 else answer


UPLOADED = {"_type": "gradio.FileData"}


def answered(client, page, path, meta=UPLOADED):
    """Return the values that browsers receive for each component."""
    (number,) = (number for number, each in page.fns.items() if each.name == "answer")
    asked = {"data": [{"path": path, "meta": meta}], "fn_index": number, "session_hash": "x"}
    assert client.post("/gradio_api/queue/join", json=asked).status_code == 200
    stream = client.get("/gradio_api/queue/data", params={"session_hash": "x"}).text
    messages = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    (done,) = (each for each in messages if each["msg"] == "process_completed")
    return done["output"]


def test_image_is_predicted_from_its_original_bytes(client, page, image_run, encoded_images):
    signature = tf.saved_model.load(str(image_run.export_dir)).signatures["serving_default"]
    for encoded in encoded_images[:3]:
        label, note = answered(client, page, uploaded(client, encoded))["data"]
        expected = signature(image_bytes=tf.constant([encoded]))
        assert label["label"] == expected["label"].numpy()[0].decode()
        best = max(each["confidence"] for each in label["confidences"])
        assert best == pytest.approx(float(tf.reduce_max(expected["probabilities"])), abs=1e-6)
        assert note == "<p></p>"


def test_bad_image_gets_a_reason(client, page):
    label, note = answered(client, page, uploaded(client, b"<b>hello</b>"))["data"]
    assert not label
    assert note.startswith('<p class="refused"') and "not an image: neither JPEG" in note


@pytest.mark.parametrize("meta", [UPLOADED, {}])
def test_only_uploads_are_read_and_nothing_is_fetched(
    client, page, encoded_images, tmp_path, monkeypatch, meta
):
    fetched = []

    async def fetch(url):
        fetched.append(url)

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", fetch)
    other = tmp_path / "other.png"
    other.write_bytes(encoded_images[0])
    own = uploaded(client, encoded_images[0])
    crooked = os.path.join(os.path.dirname(own), os.path.relpath(other, os.path.dirname(own)))
    folder = Path(get_upload_folder())
    before = set(folder.rglob("*"))
    for path in (str(other), crooked, os.path.dirname(own), "http://example.com/a.png"):
        assert "data" not in answered(client, page, path, meta), path
    assert set(folder.rglob("*")) == before and not fetched
    assert client.get(f"/gradio_api/file={other}").status_code in (403, 404)


def test_upload_size_is_limited(client):
    refused = uploaded(client, bytes(2**20 + 1))
    assert refused.status_code == 413
    assert "exceeded maximum allowed size of 1048576 bytes" in refused.text
    assert uploaded(client, bytes(2**20)).endswith(".png")


def test_page_is_self_contained_and_names_are_escaped(client):
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?([^\" >]*)", answer.text)
    assert loaded and not [each for each in loaded if "//" in each]
    assert "<script>alert" not in answer.text
    theme = client.get("/theme.css").text
    assert "http" not in theme.replace("http://www.w3.org", "")
    config = client.get("/config").json()
    (head,) = (
        each["props"]["value"]
        for each in config["components"]
        if "<h1>" in str(each["props"].get("value"))
    )
    assert "&lt;/title&gt;" in head and "a &amp; b" in head and "<script" not in head
    for path in ("/docs", "/monitoring"):
        assert client.get(path).status_code in (403, 404)


EXPECTED = {
    "TextClassification": ["Text"],
    "TextMultiLabel": ["Text"],
    "TextRegression": ["Text"],
    "TokenClassification": ["Text"],
    "QuestionAnswering": ["Question", "Passage"],
    "MaskedLM": ["Text"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPECTED)
def test_text_tasks_predict_their_example_and_report_missing_fields(kind):
    run = task_run(kind)
    about = read_about(run.run_dir)
    built = build_page(ExportedModel(run.run_dir), about, Limits(text_bytes=200))
    (asking,) = (each for each in built.fns.values() if each.name == "answer")
    assert [field.label for field in asking.inputs] == EXPECTED[kind]
    (example,) = (
        each["props"]["samples"][0]
        for each in built.config["components"]
        if each["type"] == "dataset"
    )
    assert ("[MASK]" in example[0]) == (kind == "MaskedLM")
    *values, note = asking.fn(*example)
    assert "refused" not in note and values[0] is not None  # {} where no label applies
    for component, value in zip(asking.outputs, [*values, note], strict=True):
        component.postprocess(value)
    for given in ([""] * len(example), ["x" * 201] * len(example), ["\ud800"] * len(example)):
        *values, note = asking.fn(*given)
        assert "refused" in note and not any(values)
