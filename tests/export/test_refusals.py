"""What cannot be exported is said before anything is computed."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import pytest

from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.core.errors import RecipeError, RunFolderError
from sft_keras.export.finished_run import read_run
from sft_keras.export.formats import FORMATS, chosen_formats, require_possible
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
    """A folder that looks like that of a finished run."""
    recipe = to_plain(recipe_of(ImageClassification()))
    path.mkdir()
    (path / "recipe.json").write_text(json.dumps(recipe))
    (path / "report.json").write_text(json.dumps({"data": {"source": source}}))
    for name in ("model.keras", "splits.json"):
        (path / name).write_text("{}")
    return path


def test_formats_are_chosen_by_name():
    assert [each.name for each in chosen_formats(["onnx", "litert"])] == ["litert", "onnx"]
    with pytest.raises(RecipeError, match=r"Received: 'onx'.*Did you mean 'onnx'\?"):
        chosen_formats(["onx"])
    with pytest.raises(RecipeError, match=r"--format must name formats.*litert_int8, onnx"):
        chosen_formats([])


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
def test_a_task_has_the_formats_that_its_answers_can_be_compared_in(
    task, possible, everything_installed
):
    for name, made in FORMATS.items():
        if name in possible:
            require_possible([made], recipe_of(task))
        else:
            with pytest.raises(
                RecipeError, match=rf"{name} cannot be had of {type(task).__name__}"
            ):
                require_possible([made], recipe_of(task))


def test_all_that_stands_in_the_way_is_said_at_once(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    recipe = recipe_of(TextClassification(), precision="mixed_bfloat16")
    with pytest.raises(RecipeError) as raised:
        require_possible(list(FORMATS.values()), recipe)
    message = str(raised.value)
    assert "litert_int8 cannot be had of TextClassification: attention" in message
    assert "`precision` is 'mixed_bfloat16'" in message
    assert "ai_edge_litert must be installed: pip install 'sft_keras[litert]'" in message
    assert "tf2onnx, onnx, onnxruntime must be installed: pip install 'sft_keras[onnx]'" in message
    require_possible([FORMATS["saved_model"]], dataclasses.replace(recipe))


def test_only_a_finished_run_whose_data_can_be_opened_again_is_taken(tmp_path):
    run = folder_of(tmp_path / "run")
    assert read_run(run).recipe == recipe_of(ImageClassification())
    (run / "checkpoints").mkdir()
    with pytest.raises(RunFolderError, match=r"which was stopped before its end"):
        read_run(run)
    with pytest.raises(RunFolderError, match=r"lacks model.keras, recipe.json, splits.json"):
        read_run(tmp_path)
    python = folder_of(tmp_path / "python", "Arrays(train=uint8[48, 32, 32, 3] + int64[48])")
    with pytest.raises(RunFolderError, match=r"given from Python.*Write the data to files"):
        read_run(python)


def test_the_command_says_it_in_a_line_and_without_tensorflow(tmp_path):
    def ran(*flags):
        command = [sys.executable, "-X", "importtime", "-m", "sft_keras.export", *flags]
        return subprocess.run(command, capture_output=True, text=True)

    wrong = ran(f"--run={tmp_path}", "--format=litert")
    assert wrong.returncode == 2
    lines = [line for line in wrong.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1 and "must be the folder of a finished run" in lines[0]
    assert " tensorflow\n" not in wrong.stderr
