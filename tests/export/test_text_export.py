"""Exports of text runs: files that take token ids, and the description of the tokenizer.

Needs the extras: pip install -e '.[litert,onnx]'
"""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

import sft_keras
from sft_keras import Backbone, Data, Recipe, Stage
from sft_keras.backbones.text import tiny_vocabulary
from sft_keras.core.reporter import SILENT
from sft_keras.export.export import export_run
from sft_keras.tasks import TextClassification, TokenClassification
from sft_keras.tasks.base import build_task

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytestmark = pytest.mark.slow

FORMATS = ["saved_model", "litert", "onnx"]
TOKENS = {"token_ids", "padding_mask", "segment_ids"}


def recipe_of(task, source):
    return Recipe(
        task=task,
        data=Data(source=source, batch_size=8),
        backbone=Backbone(preset="tiny:bert"),
        stages=(Stage(name="all", epochs=3, learning_rate=3e-3, unfreeze="all"),),
    )


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """A run on texts of random letters, one of which determines the class, and its exports."""
    folder, draw = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    with (folder / "texts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number in range(160):
            letters = list(draw.choice(list("abcdefgh "), draw.integers(2, 40)))
            letters.insert(draw.integers(0, len(letters)), "qz"[number % 2])
            rows.writerow(["".join(letters), ("left", "right")[number % 2]])
    task = TextClassification(sequence_length=32, dropout=0.0)
    recipe = recipe_of(task, f"csv:{folder / 'texts.csv'}")
    run = sft_keras.finetune(recipe, run_dir=folder / "run")
    return run, export_run(run.run_dir, FORMATS, reporter=SILENT), recipe


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A run on sentences in which the word qq is a person, and its exports."""
    folder, draw = tmp_path_factory.mktemp("words"), np.random.default_rng(0)
    lines = []
    for _ in range(120):
        for _ in range(draw.integers(1, 6)):
            is_name = draw.random() < 0.3
            word = "qq" if is_name else "".join(draw.choice(list("abcdef"), draw.integers(1, 6)))
            lines.append(f"{word} {'B-PER' if is_name else 'O'}")
        lines.append("")
    (folder / "words.conll").write_text("\n".join(lines))
    task = TokenClassification(sequence_length=48, dropout=0.0)
    recipe = recipe_of(task, f"conll:{folder / 'words.conll'}")
    run = sft_keras.finetune(recipe, run_dir=folder / "run")
    return run, export_run(run.run_dir, FORMATS, reporter=SILENT), recipe


@pytest.mark.parametrize(
    "fixture", ["classified", pytest.param("tagged", marks=pytest.mark.nightly)]
)
def test_token_files_match_the_trained_model(fixture, request):
    run, facts, recipe = request.getfixturevalue(fixture)
    assert [row["format"] for row in facts["rows"]] == FORMATS
    name = recipe.task.score.name
    score = run.metrics[name]["value"]
    for row in facts["rows"]:
        assert row["largest_difference"] < 1e-5
        assert row["agreement"] == 1
        assert row["examples"] == run.metrics["examples"]
        assert row["score"] == {"name": name, "trained": score, "exported": score}
        if row["format"] != "saved_model":
            assert set(row["takes"]) == TOKENS
            assert all("int32" in spec for spec in row["takes"].values())


@pytest.mark.parametrize(
    "fixture", ["classified", pytest.param("tagged", marks=pytest.mark.nightly)]
)
def test_tokenizer_card_describes_the_tokenizer_of_the_run(fixture, request):
    run, facts, recipe = request.getfixturevalue(fixture)
    tokenizer = facts["tokenizer"]
    assert "Only the SavedModel contains" in tokenizer["note"]
    pieces = json.loads((run.run_dir / tokenizer["vocabulary"]).read_text(encoding="utf-8"))
    assert tuple(pieces) == tiny_vocabulary()
    ids = build_task(recipe).encoder.encode(tf.constant(["abc q"]))["token_ids"].numpy()[0]
    assert [pieces[token] for token in ids] == ["[CLS]", "a", "##b", "##c", "q", "[SEP]"]
    special = tokenizer["special"]
    assert [pieces[special[name]] for name in ("start", "end", "pad")] == [
        "[CLS]",
        "[SEP]",
        "[PAD]",
    ]
    types = run.report["data"]["class_names"]
    tags = ["O", "B-PER", "I-PER"] if fixture == "tagged" else types
    assert facts["class_names"] == tags
    assert tokenizer["sequence_length"] == recipe.task.sequence_length


def test_file_takes_any_batch_size_and_length(classified):
    from ai_edge_litert.interpreter import Interpreter

    run, _, recipe = classified
    interpreter = Interpreter(str(run.run_dir / "exports" / "model.tflite"))
    runner = interpreter.get_signature_runner()
    for texts in (["q"], ["abc q", "a much longer text z", ""]):
        inputs = build_task(recipe).encoder.encode(tf.constant(texts))
        outputs = runner(**{name: x.numpy() for name, x in inputs.items()})["probabilities"]
        np.testing.assert_allclose(outputs, run.model(inputs, training=False), atol=1e-5)
