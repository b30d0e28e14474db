"""Exports of an image run: kept files match the trained model, and rejected ones are reported.

Needs the extras: pip install -e '.[litert,onnx]'
"""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import sft_keras
from sft_keras import Data, Recipe, Stage
from sft_keras.core.errors import DataError, ExportError
from sft_keras.core.reporter import SILENT, CallbackReporter
from sft_keras.export import converters
from sft_keras.export.export import export_run
from sft_keras.tasks import ImageClassification

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytestmark = pytest.mark.slow

CLASSES = ("red", "green", "blue")
FORMATS = ["saved_model", "litert", "litert_int8", "onnx"]


@pytest.fixture(scope="module")
def images(colour_images, tmp_path_factory):
    """A folder of PNG files, one subfolder per class; one file in six has a wrong label."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    for number, (image, label) in enumerate(zip(*colour_images)):
        path = folder / CLASSES[(label + (number % 6 == 0)) % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return folder


@pytest.fixture(scope="module")
def trained(images, tiny_backbone, tmp_path_factory):
    """A finished run without exports."""
    recipe = Recipe(
        task=ImageClassification(dropout=0.1),
        data=Data(source=f"folder:{images}", batch_size=8, validation=0.25, test=0.25),
        backbone=tiny_backbone,
        stages=(Stage(name="head", epochs=20, learning_rate=2e-2),),
    )
    run = sft_keras.finetune(recipe, run_dir=tmp_path_factory.mktemp("runs") / "colours")
    assert run.metrics["accuracy"]["value"] > 0.5
    return run


@pytest.fixture(scope="module")
def before(trained):
    names = ("report.html", "report.json")
    return {name: (trained.run_dir / name).read_text(encoding="utf-8") for name in names}


@pytest.fixture(scope="module")
def exported(trained, before):
    """The manifest and the log lines of exporting all formats."""
    log = []
    facts = export_run(
        trained.run_dir, FORMATS, accept_loss=True, reporter=CallbackReporter(log.append)
    )
    return facts, log


def rows_of(facts):
    return {row["format"]: row for row in facts["rows"]}


def test_every_format_is_measured_on_the_whole_test_split(exported, trained):
    facts, log = exported
    rows = rows_of(facts)
    assert list(rows) == FORMATS
    assert json.loads((trained.run_dir / "exports" / "exports.json").read_text()) == facts
    for name, row in rows.items():
        assert row["examples"] == 12
        assert row["score"]["trained"] == trained.metrics["accuracy"]["value"]
        assert all(time > 0 for time in row["milliseconds"].values())
        path = trained.run_dir / row["file"]
        if name != "saved_model":
            assert row["bytes"] == path.stat().st_size
            assert row["largest_difference"] <= (0.5 if name == "litert_int8" else 1e-3)
        assert any(line.startswith(name) and row["file"] in line for line in log)


def test_measured_differences_match_the_file(exported, trained, colour_images):
    from ai_edge_litert.interpreter import Interpreter

    row = rows_of(exported[0])["litert_int8"]  # in floats there is next to no difference
    runner = Interpreter(str(trained.run_dir / row["file"])).get_signature_runner()
    ids = json.loads((trained.run_dir / "splits.json").read_text())["ids"]["test"]
    images = colour_images[0][[int(re.findall(r"\d+", name)[-1]) for name in ids]]
    outputs = runner(images=images)["probabilities"].astype(np.float32) / 256
    expected = trained.model(images.astype(np.float32), training=False).numpy()
    assert np.abs(outputs - expected).max() == pytest.approx(row["largest_difference"], abs=1e-5)
    assert row["largest_difference"] > 1e-3
    assert row["agreement"] == (outputs.argmax(1) == expected.argmax(1)).mean()


def test_quantized_file_takes_uint8_pixels(exported, colour_images):
    assert colour_images[0].max() < 255  # else the scale would be 1 by itself
    row = rows_of(exported[0])["litert_int8"]
    assert row["takes"] == {"images": "uint8 [-1, 32, 32, 3], scale 1, zero point 0"}
    assert row["gives"]["probabilities"].startswith("uint8 [-1, 3], scale 0.00390625")
    assert row["samples"] == 24
    assert set(row["validation"]) == {"name", "trained", "exported"}
    assert sum(entry["support"] for entry in row["per_class"]) == 12


def test_report_gains_a_section_and_keeps_the_rest(exported, trained, before):
    now = {name: (trained.run_dir / name).read_text(encoding="utf-8") for name in before}
    pictures = re.findall(r"data:image/png;base64,[^\"]+", before["report.html"])
    assert pictures
    assert re.findall(r"data:image/png;base64,[^\"]+", now["report.html"]) == pictures
    then, report = json.loads(before["report.json"]), json.loads(now["report.json"])
    assert report.pop("exports") == json.loads(json.dumps(exported[0]))
    assert report == then
    section = now["report.html"].split("<h2>Exports</h2>")[1].split("</section>")[0]
    for row in exported[0]["rows"]:
        assert row["file"] in section
    whole = now["report.html"].split("<section>\n<h2>Exports</h2>")
    rest = whole[1].partition("</section>\n\n")[2]
    assert whole[0] + rest == before["report.html"]


@pytest.fixture
def copied(trained, before, exported, tmp_path):
    """A copy of the run with its exports."""
    return shutil.copytree(trained.run_dir, tmp_path / "run")


def test_file_that_differs_is_removed(copied, monkeypatch):
    real = converters.write_litert
    monkeypatch.setattr(
        converters, "write_litert", lambda model, path: real(shifted(model, 0.3), path)
    )
    with pytest.raises(ExportError, match=r"model.tflite differs from the trained model"):
        export_run(copied, ["litert"], reporter=SILENT)
    names = {path.name for path in (copied / "exports").iterdir()}
    assert names == {"exports.json", "model_int8.tflite", "model.onnx"}
    facts = json.loads((copied / "exports" / "exports.json").read_text())
    assert [row["format"] for row in facts["rows"]] == ["saved_model", "litert_int8", "onnx"]
    assert "Received: a difference of 0." in facts["refused"]["litert"]
    assert "litert was rejected" in (copied / "report.html").read_text(encoding="utf-8")


def shifted(model, by):
    """Return a copy of a model with a shifted bias of the first class."""
    other = keras.models.clone_model(model)
    values = model.get_weights()
    other.set_weights([*values[:-1], values[-1] + np.array([by, 0, 0], np.float32)])
    return other


def test_lossy_quantized_file_is_removed_unless_accepted(copied, monkeypatch):
    real = converters.write_litert_int8
    monkeypatch.setattr(
        converters,
        "write_litert_int8",
        lambda model, *arguments: real(shifted(model, 9), *arguments),
    )
    path = copied / "exports" / "model_int8.tflite"
    with pytest.raises(ExportError, match=r"accuracy on validation drops from .*--accept_loss"):
        export_run(copied, ["litert_int8"], reporter=SILENT)
    assert not path.exists()
    log = []
    export_run(copied, ["litert_int8"], accept_loss=True, reporter=CallbackReporter(log.append))
    assert path.exists()
    (line,) = [line for line in log if "accuracy on validation" in line]
    assert "points)" in line and "(-" in line


def test_changed_data_or_model_are_refused(copied, trained, images, tmp_path):
    elsewhere = shutil.copytree(images, tmp_path / "moved")
    recipe = json.loads((copied / "recipe.json").read_text())
    recipe["data"]["source"] = f"folder:{elsewhere}"
    (copied / "recipe.json").write_text(json.dumps(recipe))
    kept = (copied / "model.keras").read_bytes()
    shifted(trained.model, 9).save(copied / "model.keras")
    with pytest.raises(DataError, match=r"in the report of its run: accuracy .* Received"):
        export_run(copied, ["litert"], reporter=SILENT)
    (copied / "model.keras").write_bytes(kept)
    next((elsewhere / "red").iterdir()).unlink()
    with pytest.raises(DataError, match=r"those of the run.*with different ids"):
        export_run(copied, ["litert"], reporter=SILENT)
    assert (copied / "exports" / "model.tflite").exists()  # nothing was begun
