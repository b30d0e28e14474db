"""What cannot be exported is reported before anything is computed."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import pytest

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.core.errors import RecipeError, RunFolderError
from sft_keras.export.finished_run import read_run
from sft_keras.export.formats import FORMATS, require_exportable, select_formats
from sft_keras.recipe.loader import to_plain
from sft_keras.tasks import (
    ImageClassification,
    MaskedLM,
    QuestionAnswering,
    TextClassification,
    TextMultiLabel,
    TokenClassification,
)


def recipe_of(task, **changes):
    is_image = isinstance(task, ImageClassification)
    return Recipe(
        task=task,
        data=Data(source="digits" if is_image else "synthetic:3"),
        backbone=Backbone(preset="bundled:efficientnet_lite0" if is_image else "tiny:bert"),
        stages=(Stage(name="head", epochs=1, learning_rate=1e-3),),
        **changes,
    )


@pytest.fixture
def everything_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)


def folder_of(path, source="digits"):
    """Create a folder that looks like that of a finished run."""
    recipe = to_plain(recipe_of(ImageClassification()))
    path.mkdir()
    (path / "recipe.json").write_text(json.dumps(recipe))
    (path / "report.json").write_text(json.dumps({"data": {"source": source}}))
    for name in ("model.keras", "splits.json"):
        (path / name).write_text("{}")
    return path


def test_formats_are_selected_by_name():
    assert [target.name for target in select_formats(["onnx", "litert"])] == ["litert", "onnx"]
    with pytest.raises(RecipeError, match=r"Received: 'onx'.*Did you mean 'onnx'\?"):
        select_formats(["onx"])
    with pytest.raises(RecipeError, match=r"--format must be a list of formats.*litert_int8, onnx"):
        select_formats([])


@pytest.mark.parametrize(
    ("task", "possible"),
    [
        (ImageClassification(), {"saved_model", "litert", "litert_int8", "onnx"}),
        (TextClassification(), {"saved_model", "litert", "onnx"}),
        (TokenClassification(), {"saved_model", "litert", "onnx"}),
        (TextMultiLabel(), set()),
        (QuestionAnswering(), set()),
        (MaskedLM(), set()),
    ],
)
def test_supported_formats_per_task(task, possible, everything_installed):
    for name, target in FORMATS.items():
        if name in possible:
            require_exportable([target], recipe_of(task))
        else:
            with pytest.raises(
                RecipeError, match=rf"{name} is not supported for {type(task).__name__}"
            ):
                require_exportable([target], recipe_of(task))


def test_all_faults_are_listed_at_once(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    recipe = recipe_of(TextClassification())
    with pytest.raises(RecipeError) as raised:
        require_exportable(list(FORMATS.values()), recipe)
    message = str(raised.value)
    assert "litert_int8 is not supported for TextClassification: " in message
    assert "ai_edge_litert must be installed: pip install 'sft_keras[litert]'" in message
    assert "tf2onnx, onnx, onnxruntime must be installed: pip install 'sft_keras[onnx]'" in message
    require_exportable([FORMATS["saved_model"]], dataclasses.replace(recipe))


def test_run_must_be_finished_and_its_data_readable(tmp_path):
    run = folder_of(tmp_path / "run")
    assert read_run(run).recipe == recipe_of(ImageClassification())
    (run / "checkpoints").mkdir()
    with pytest.raises(RunFolderError, match=r"which was stopped before it finished"):
        read_run(run)
    with pytest.raises(RunFolderError, match=r"lacks model.keras, recipe.json, splits.json"):
        read_run(tmp_path)
    python = folder_of(tmp_path / "python", "Arrays(train=uint8[48, 32, 32, 3] + int64[48])")
    with pytest.raises(RunFolderError, match=r"passed from Python.*Write the data to files"):
        read_run(python)


def test_command_reports_errors_in_one_line_without_tensorflow(tmp_path):
    def ran(*flags):
        command = [sys.executable, "-X", "importtime", "-m", "sft_keras.export", *flags]
        return subprocess.run(command, capture_output=True, text=True)

    wrong = ran(f"--run={tmp_path}", "--format=litert")
    assert wrong.returncode == 2
    lines = [line for line in wrong.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1 and "must be the folder of a finished run" in lines[0]
    assert " tensorflow\n" not in wrong.stderr
