"""A text classifier from lists to a served model: what is trained, reported and answered."""

import dataclasses
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from task_cases import class_texts, task_case, task_run

import sft_keras
from sft_keras import Backbone, Store, Texts
from sft_keras.backbones.text import build_text_backbone, tiny_vocabulary
from sft_keras.core.errors import BackboneError, RecipeError
from sft_keras.export.saved_model import export_saved_model
from sft_keras.inference.predict import predict
from sft_keras.runs.folder import RunFolder
from sft_keras.tasks import ImageClassification, TextAugment
from sft_keras.tasks.base import build_task
from sft_keras.training.experiment import Experiment
from sft_keras.training.setup import build_staged
from sft_keras.training.trainer import train_stages

CLASSES = ("left", "right")


@pytest.fixture(scope="module")
def recipe():
    return task_case("TextClassification").recipe


@pytest.fixture(scope="module")
def run():
    return task_run("TextClassification")


def test_the_frozen_layers_are_computed_once_and_stay_as_they_were(run):
    head, top = run.report["stages"]
    for stage in (head, top):
        assert stage["frozen_blocks"].startswith("computed once for 108 examples")
        assert stage["audit"]["frozen_identical"]
    trained = {name.partition("/")[0] for name in top["audit"]["trained_layers"]}
    assert trained == {"logits", "transformer_layer_1"}
    blocks = [block["name"] for block in run.report["model"]["blocks"]]
    assert blocks == ["embeddings", "transformer_layer_0", "transformer_layer_1"]


def test_the_report_says_how_long_texts_are_and_shows_mistakes(run):
    facts = run.report["inputs"]["train"]
    assert sum(facts["lengths"]["counts"]) == 96
    assert facts["cut_off"] == sum(facts["lengths"]["counts"][33:]) > 0
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert ">Text lengths</h2>" in page and "are truncated at the end" in page
    mistakes = run.report["mistakes"]
    assert mistakes and not any("<b>" in mistake["text"] for mistake in mistakes)
    assert mistakes[0]["text"] in page


def test_it_answers_texts_alike_in_a_process_that_knows_tensorflow_alone(run):
    # Compared by the run itself, in a process of its own; here that the check was made.
    assert run.report["export"]["checked"] == 12
    assert run.report["export"]["largest_difference"] < 1e-5
    assert run.report["export"]["needs"] == []
    assert run.report["export"]["signatures"] == {"serving_default": "texts: string (None,)"}


def test_predictions_are_those_of_the_model(run, recipe):
    texts = ["abc q", "z", "q" * 60, ""]
    answers = list(predict(run.run_dir, texts))
    inputs = build_task(recipe).encoder.encode(tf.constant(texts))
    expected = run.model(inputs, training=False).numpy()
    assert [answer.input for answer in answers] == texts
    for answer, row in zip(answers, expected):
        np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-5)
        assert answer.label == CLASSES[row.argmax()]


def test_what_is_no_text_is_named_and_the_others_are_answered(run):
    first, second = predict(run.run_dir, ["abc \udcff", "z"])  # a byte that is not UTF-8
    assert first.error == "not valid Unicode: lone surrogate at index 4"
    assert second.label in CLASSES


@pytest.mark.slow
def test_texts_are_asked_about_on_the_command_line(run):
    ran = subprocess.run(
        [sys.executable, "-m", "sft_keras.predict", f"--run={run.run_dir}", "--json", "-"],
        input="abc q\nz\n",
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["input"] for line in lines] == ["abc q", "z"]
    assert set(lines[0]["probabilities"]) == set(CLASSES)


def test_the_saved_model_file_loads_and_answers_alike(run, recipe):
    loaded = keras.models.load_model(run.run_dir / "model.keras")
    inputs = build_task(recipe).encoder.encode(tf.constant(["abc", "de q"]))
    np.testing.assert_array_equal(loaded(inputs), run.model(inputs))


@pytest.mark.slow
def test_pairs_are_served_by_two_arguments(recipe, tmp_path):
    given = class_texts(20).train
    pairs = Texts(([(text, text[::-1]) for text in given[0]], given[1]))
    plan = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, source=pairs))
    info = build_task(plan).open_data(0).info
    staged = build_staged(plan, build_task(plan).build_backbone(), info)
    signatures = build_task(plan, info).exporter.signatures(staged.model)
    export_saved_model(signatures, staged.model, tmp_path / "export" / "1", plan.task)
    good, bad = predict(tmp_path, ["abc\tq", "abc"])
    assert "a tab between" in bad.error
    inputs = build_task(plan).encoder.encode(tf.constant(["abc"]), tf.constant(["q"]))
    assert inputs["segment_ids"].numpy().sum() == 2
    row = staged.model(inputs).numpy()[0]
    np.testing.assert_allclose(list(good.probabilities.values()), row, atol=1e-5)


@pytest.mark.parametrize("views", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_augmented_training_computes_the_layers_anew_or_stores_views(recipe, tmp_path, views):
    task = dataclasses.replace(recipe.task, augment=TextAugment(mask=0.2, delete=0.1, swap=0.1))
    stages = (dataclasses.replace(recipe.stages[0], epochs=1),)
    plan = dataclasses.replace(recipe, task=task, stages=stages, store=Store(views=views))
    splits = build_task(plan).open_data(0)
    prepared = build_task(plan, splits.info).preprocessor.preprocess(
        splits, lambda done, total: None
    )
    staged = build_staged(plan, build_task(plan).build_backbone(), splits.info)
    folder = RunFolder(tmp_path, is_quiet=True)
    (head,) = train_stages(Experiment(plan, staged, prepared, splits.info, folder))
    expected = "computed in every epoch: augment" if views is None else "computed once for 204 "
    assert head["frozen_blocks"].startswith(expected)


@pytest.mark.parametrize("pooling", ["mean", "first", "pooled"])
def test_what_the_head_sees_does_not_depend_on_padding(pooling):
    keras.utils.set_random_seed(0)
    backbone = build_text_backbone(Backbone(preset="tiny:bert"), pooling, 64)
    tokens = np.array([[2, 9, 12, 7, 3]], np.int32)
    ids = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    ids["segment_ids"] = np.zeros_like(tokens)
    longer = {name: np.pad(each, [(0, 0), (0, 11)]) for name, each in ids.items()}
    given = [backbone.model(inputs, training=False).numpy() for inputs in (ids, longer)]
    assert given[0].shape == (1, 16)
    np.testing.assert_allclose(*given, atol=1e-6)


def test_the_mean_is_that_over_tokens(recipe):
    keras.utils.set_random_seed(0)
    tokens = build_text_backbone(recipe.backbone, "tokens", 32).model
    keras.utils.set_random_seed(0)
    mean = build_text_backbone(recipe.backbone, "mean", 32).model
    inputs = build_task(recipe).encoder.encode(tf.constant(["abc", "abcdefgh"]))
    each = tokens(inputs).numpy()
    expected = [each[0, :5].mean(axis=0), each[1].mean(axis=0)]
    np.testing.assert_allclose(mean(inputs), expected, atol=1e-6)


def test_recipes_that_cannot_work_are_refused_before_anything_is_opened(recipe):
    wrong = dataclasses.replace(recipe, backbone=Backbone(preset="keras:vgg16"))
    with pytest.raises(RecipeError, match=r"`backbone.preset` for TextClassification must be one"):
        wrong.validate()
    wrong = dataclasses.replace(recipe, task=ImageClassification())
    with pytest.raises(RecipeError, match=r"`data.source` for ImageClassification .* 'Texts'"):
        wrong.validate()
    with pytest.raises(BackboneError, match=r"must be at most 128 for tiny:bert"):
        build_text_backbone(recipe.backbone, "mean", 200)
    with pytest.raises(BackboneError, match=r"Received: 'hub:bert_tyny_en_uncased'.*Did you mean"):
        build_text_backbone(Backbone(preset="hub:bert_tyny_en_uncased"), "mean", 32)
    with pytest.raises(BackboneError, match=r"a folder with a config.json"):
        build_text_backbone(Backbone(preset="hf:nowhere"), "mean", 32)


@pytest.fixture(scope="module")
def preset_folder(tmp_path_factory):
    """A KerasHub preset of a BERT with tokenizer, random weights."""
    import keras_hub

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("presets") / "bert"
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(tiny_vocabulary()),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=40,
    )
    backbone.save_to_preset(str(folder))
    tokenizer = keras_hub.models.BertTokenizer(list(tiny_vocabulary()), lowercase=True)
    tokenizer.save_to_preset(str(folder))
    return folder


def test_a_preset_folder_of_keras_hub_is_loaded_with_its_tokenizer(preset_folder, recipe):
    backbone = Backbone(preset=f"hub:{preset_folder}")
    built = build_text_backbone(backbone, "mean", 40)
    assert [block.name for block in built.blocks] == [
        "embeddings",
        "transformer_layer_0",
        "transformer_layer_1",
    ]
    plan = dataclasses.replace(recipe, backbone=backbone)
    inputs = build_task(plan).encoder.encode(tf.constant(["Ab c"]))
    words = [tiny_vocabulary()[token] for token in inputs["token_ids"][0].numpy()]
    assert words == ["[CLS]", "a", "##b", "c", "[SEP]"]
    import keras_hub

    expected = keras_hub.models.BertBackbone.from_preset(str(preset_folder))(inputs)
    np.testing.assert_allclose(
        built.model(inputs), expected["sequence_output"].numpy().mean(axis=1), atol=1e-6
    )


@pytest.mark.shared
def test_a_hugging_face_folder_is_loaded_and_a_head_that_is_left_out_is_said(
    shared_folder, tmp_path
):
    source = shared_folder / "weights" / "minilm_l6_fp16"
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    built = build_text_backbone(Backbone(preset=f"hf:{tmp_path}"), "mean", 128)
    assert len(built.blocks) == 7
    (note,) = built.notes
    assert re.search("a trained BertForSequenceClassification. Its head is not loaded", note)
    assert build_text_backbone(Backbone(preset=f"hf:{source}"), "mean", 128).notes == ()


@pytest.mark.parametrize("family", ["RobertaBackbone", "DistilBertBackbone", "ElectraBackbone"])
def test_other_families_have_a_block_a_layer(family, monkeypatch):
    built = build_tiny(family, monkeypatch)
    names = [block.name for block in built.blocks]
    assert names == ["embeddings", "transformer_layer_0", "transformer_layer_1"]
    for unfreeze in range(4):
        built.split(unfreeze)


@pytest.mark.parametrize("family", ["AlbertBackbone", "DebertaV3Backbone"])
def test_families_whose_layers_share_weights_are_one_block(family, monkeypatch):
    built = build_tiny(family, monkeypatch)
    assert [block.name for block in built.blocks] == ["encoder"]
    covered = {id(w) for layer in built.blocks[0].layers for w in layer.weights}
    assert covered == {id(w) for w in built.model.weights}


@pytest.mark.parametrize("family", ["AlbertBackbone", "DebertaV3Backbone", "BertBackbone"])
def test_a_saved_network_answers_as_before(family, monkeypatch, tmp_path):
    model = build_tiny(family, monkeypatch).model
    inputs = {name: np.ones((2, 5), np.int32) for name in model.input}
    inputs["token_ids"] = np.arange(10, dtype=np.int32).reshape(2, 5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def build_tiny(family, monkeypatch):
    """Builds a random network of a family as if it had been loaded from a preset."""
    import keras_hub

    from sft_keras.backbones import text

    sizes = {"num_layers": 2, "num_heads": 2, "intermediate_dim": 16, "max_sequence_length": 40}
    sizes |= {"hidden_dim": 8, "vocabulary_size": 30}
    if family in ("AlbertBackbone", "ElectraBackbone"):
        sizes |= {"embedding_dim": 8}
    if family == "ElectraBackbone":
        sizes["vocab_size"] = sizes.pop("vocabulary_size")
    made = getattr(keras_hub.models, family)(**sizes)
    monkeypatch.setattr(text, "text_preset", lambda backbone: "x")
    monkeypatch.setattr(text, "_load", lambda preset, backbone: made)
    return build_text_backbone(Backbone(preset="hub:x"), "mean", 32)


def test_the_smoke_run_needs_neither_texts_nor_weights(recipe):
    smoke = recipe.task.smoke_recipe(recipe)
    smoke.validate()
    assert (smoke.data.source, smoke.backbone.preset) == ("synthetic:3", "tiny:bert")


@pytest.mark.slow
def test_a_tokenizer_of_keras_hub_is_served_with_the_module_it_needs(recipe, tmp_path):
    import keras_hub

    keras.utils.set_random_seed(0)
    letters = [*"abcdefghqz", "\u0120"]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "ab", "\u0120a"]
    tokenizer = keras_hub.models.RobertaTokenizer(
        vocabulary={word: number for number, word in enumerate(vocabulary)},
        merges=["a b", "\u0120 a"],
    )
    backbone = keras_hub.models.RobertaBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=40,
    )
    for part in (backbone, tokenizer):
        part.save_to_preset(str(tmp_path / "roberta"))
    plan = dataclasses.replace(
        recipe,
        backbone=Backbone(preset=f"hub:{tmp_path / 'roberta'}"),
        stages=(dataclasses.replace(recipe.stages[0], epochs=1),),
    )
    run = sft_keras.finetune(plan, run_dir=tmp_path / "run")
    assert run.report["export"]["needs"] == ["tensorflow_text"]
    assert run.report["export"]["largest_difference"] < 1e-5
    (answer,) = predict(run.run_dir, ["ab q"])
    inputs = build_task(plan).encoder.encode(tf.constant(["ab q"]))
    words = [vocabulary[token] for token in inputs["token_ids"][0].numpy()]
    assert words == ["<s>", "ab", "\u0120", "q", "</s>"]
    row = run.model(inputs, training=False).numpy()[0]
    np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-5)
