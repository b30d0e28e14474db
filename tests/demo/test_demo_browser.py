"""The page in a real browser."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import browser as browsers
import screenshots
from task_cases import task_run

from sft_keras.inference.predict import predict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("gradio") and find_spec("selenium")), reason="needs gradio and selenium"
    ),
    pytest.mark.skipif(browsers.programs() is None, reason="no chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def window():
    with browsers.Browser() as opened:
        yield opened


def test_uploaded_image_gets_its_class(window, image_run, encoded_images, tmp_path):
    (tmp_path / "good.png").write_bytes(encoded_images[0])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    (expected,) = predict(image_run.run_dir, [tmp_path / "good.png"])
    with screenshots.served(image_run.run_dir, "--max_upload_mb=1") as url:
        window.look(1280, 900)
        window.open(url)
        said = screenshots.ask(window, tmp_path / "good.png")
        label, *rest = said.removeprefix("Answer").split()
        assert label == expected.label.strip()
        shares = [int(each) for each in re.findall(r"(\d+)%", " ".join(rest))]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] == pytest.approx(100 * max(expected.probabilities.values()), abs=1)
        window.shot(tmp_path / "good.shot.png")
        assert (tmp_path / "good.shot.png").read_bytes().startswith(b"\x89PNG")
        window.open(url)
        screenshots.ask(window, tmp_path / "bad.png")
        assert "not an image: neither JPEG" in window.wait_for("#note", "cannot be read")
        window.open(url)
        window.find("#answer")
        window.find("input[type=file]").send_keys(str(tmp_path / "large.png"))
        window.wait_for("body", "exceed the maximum allowed size of 1.0 Mb")
        window.look(390, 844, dark=True)
        window.open(url)
        screenshots.ask(window, tmp_path / "good.png")
    assert window.foreign_requests() == []


@pytest.mark.parametrize("kind", ["TokenClassification"])  # by which it finds the worker of the run
def test_entered_text_gets_its_entities(window, kind):
    text_run = task_run(kind)
    text = "Ada \N{GRINNING FACE} <b>Lovelace</b> lives in Zürich."
    (expected,) = predict(text_run.run_dir, [text])
    with screenshots.served(text_run.run_dir) as url:
        window.look(1280, 900)
        window.open(url)
        window.find("#ask").click()
        assert window.wait_for("#note", "Enter") == "Enter a text first."
        window.fill("textarea", text)
        window.find("#ask").click()
        if expected.entities:
            window.wait_for("table", expected.entities[0].text)
        else:
            window.wait_for("#note", "No entities found.")
        shown = window.wait_for("#answer", "Zürich")
        assert "Lovelace</b" in shown  # as it was typed, and no HTML
        assert all(each.text in shown for each in expected.entities)
        assert window.complaints() == [] and window.foreign_requests() == []
