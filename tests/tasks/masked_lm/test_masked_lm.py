"""Masked language modelling: what trains, and the preset that is left behind."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from task_cases import masked_lines, task_case, task_run

import sft_keras
from sft_keras import Backbone, Data, Recipe, Stage, Store, Texts
from sft_keras.backbones.text import MASK_POSITIONS, build_text_backbone, tiny_vocabulary
from sft_keras.core.errors import DataError, RecipeError
from sft_keras.inference.predict import predict
from sft_keras.models.staged import StagedModel
from sft_keras.tasks import Clean, MaskedLM, TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.tasks.masked_lm.head import masked_lm_head
from sft_keras.tasks.masked_lm.signatures import fill_mask_inputs
from sft_keras.tasks.masked_lm.source import list_unlabelled_texts
from sft_keras.training.freezing import may_move, set_trainable
from sft_keras.training.setup import build_staged

LENGTH = 32


# The model


@pytest.fixture(scope="module")
def recipe():
    return task_case("MaskedLM").recipe


@pytest.fixture(scope="module")
def run():
    return task_run("MaskedLM")


@pytest.mark.parametrize(
    "family",
    [
        "BertBackbone",
        "RobertaBackbone",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("AlbertBackbone", "DebertaV3Backbone", "DistilBertBackbone")
        ),
    ],
)
def test_the_head_is_tied_to_the_embedding_also_once_it_was_saved(family, monkeypatch, tmp_path):
    import keras_hub

    from sft_keras.backbones import text

    sizes = {"num_layers": 1, "num_heads": 2, "intermediate_dim": 16, "max_sequence_length": 40}
    sizes |= {"hidden_dim": 8, "vocabulary_size": 30}
    if family == "AlbertBackbone":
        sizes["embedding_dim"] = 6
    keras.utils.set_random_seed(0)
    made = getattr(keras_hub.models, family)(**sizes)
    monkeypatch.setattr(text, "text_preset", lambda backbone: "x")
    monkeypatch.setattr(text, "_load", lambda preset, backbone: made)
    built = build_text_backbone(Backbone(preset="hub:x"), "masked", LENGTH)
    staged = StagedModel(backbone=built, head=masked_lm_head(built), activation="softmax")
    tokens = np.array([[3, 4, 5, 6], [7, 8, 9, 10]], np.int32)
    inputs = {name: np.ones_like(tokens) for name in built.model.input}
    inputs |= {"token_ids": tokens, MASK_POSITIONS: np.array([[1, 2], [3, 0]], np.int32)}
    before = staged.model(inputs).numpy()
    assert before.shape == (2, 2, 30)
    # A token that is not read: its row of the embedding matters to the logits alone.
    table = made.token_embedding.embeddings
    table.assign(table.numpy() + 5.0 * np.eye(30, table.shape[1], k=-20, dtype=np.float32))
    after = staged.model(inputs).numpy()
    assert np.abs(after - before).max() > 1e-3
    staged.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), after)
    assert len(loaded.variables) == len(staged.model.variables)
    assert loaded.count_params() == staged.model.count_params()


def test_the_tied_embedding_trains_with_its_block_and_not_with_the_head(recipe):
    splits = build_task(recipe).open_data(0)
    staged = build_staged(recipe, build_task(recipe).build_backbone(), splits.info)
    head = {"transform/kernel", "transform/bias", "transform_norm/gamma", "transform_norm/beta"}
    head |= {"logits/bias"}
    table = "token_embedding/embeddings"
    for unfreeze in (0, "all", 1, "all", 0):
        stage = Stage(name="x", epochs=1, learning_rate=1e-3, unfreeze=unfreeze)
        set_trainable(staged, stage)
        trains = [v.path for v in staged.stage_model(unfreeze).trainable_variables]
        assert len(set(trains)) == len(trains)
        assert set(trains) == set(may_move(staged, stage))
        assert head <= set(trains) and (table in trains) == (unfreeze == "all")
        assert unfreeze != 0 or set(trains) == head


# A run


@pytest.mark.slow  # trains a whole run
def test_the_loss_on_texts_that_were_held_out_falls_and_the_report_says_from_where(run):
    head, top = run.report["stages"]
    words = len(tiny_vocabulary())
    assert head["start"]["loss"] == pytest.approx(np.log(words), rel=0.1)
    assert head["start"]["loss"] > head["validation"]["loss"] > top["validation"]["loss"]
    assert top["start"]["loss"] == pytest.approx(head["validation"]["loss"], rel=0.05)
    assert run.metrics["loss"] < 0.6 * np.log(words)
    assert run.metrics["accuracy"]["low"] > 10 / words
    assert run.metrics["perplexity"] == pytest.approx(np.exp(run.metrics["loss"]))
    # The history's is a mean over batches, of which each has about as many masked tokens.
    assert top["validation"]["loss"] == pytest.approx(min(top["history"]["val_loss"]), rel=0.1)
    assert (
        head["frozen_blocks"] == "computed in every epoch: the task draws new inputs in every epoch"
    )
    assert head["audit"]["frozen_identical"] and head["audit"]["moved_variables"] == 5
    assert "token_embedding" in top["audit"]["trained_layers"]
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert f"{head['start']['loss']:.4f}" in page and f"{run.metrics['perplexity']:.2f}" in page
    assert run.report["mistakes"] and run.report["mistakes"][0]["text"] in page
    splits = json.loads((run.run_dir / "splits.json").read_text())
    assert not splits["class_names"] and "class" not in splits["origin"]["test"]


@pytest.mark.slow  # trains a whole run
def test_the_preset_is_the_trained_backbone_with_its_tokenizer(run, recipe):
    backbone = Backbone(preset=f"hub:{run.run_dir / 'preset'}")
    plan = Recipe(
        task=TextClassification(sequence_length=LENGTH),
        data=Data(source=Texts((["a b"], ["x"]))),
        backbone=backbone,
        stages=recipe.stages,
    )
    plan.validate()
    texts = tf.constant(["a b a b", "Café 7!"])
    inputs = build_task(plan).encoder.encode(texts)
    for name, each in build_task(recipe).encoder.encode(texts).items():
        np.testing.assert_array_equal(inputs[name], each)
    tokens = build_text_backbone(backbone, "tokens", LENGTH).model(inputs).numpy()
    trained = _backbone_of(run.model)
    places = np.tile(np.arange(tokens.shape[1], dtype=np.int32), (2, 1))
    expected = trained({**inputs, MASK_POSITIONS: tf.constant(places)}).numpy()
    np.testing.assert_allclose(tokens, expected, atol=1e-6)
    untrained = build_text_backbone(recipe.backbone, "tokens", LENGTH).model(inputs).numpy()
    assert np.abs(tokens - untrained).max() > 0.1
    assert f"--set=backbone.preset=hub:{run.run_dir / 'preset'}" in run.report["notes"][0]


def _backbone_of(model):
    return keras.Model(model.input, model.get_layer("at_places").output)


@pytest.mark.slow  # trains a whole run
def test_the_exported_model_fills_gaps_as_the_trained_one_does(run, recipe):
    assert run.report["export"]["checked"] == 20
    assert run.report["export"]["largest_difference"] < 1e-5
    answers = list(predict(run.run_dir, ["a b a [MASK] a b", "c d c d c [MASK] c d"]))
    encoder = build_task(recipe).encoder
    for answer in answers:
        inputs = fill_mask_inputs(encoder, tf.constant([answer.input]))
        expected = run.model(inputs).numpy()[0, 0]
        best = {tiny_vocabulary()[each]: expected[each] for each in np.argsort(-expected)[:5]}
        assert answer.probabilities.keys() == best.keys()
        assert answer.label == next(iter(best))
    assert [answer.label for answer in answers] == ["b", "d"]


# Data


def test_texts_need_no_labels_and_are_read_a_line_each(tmp_path):
    def listed(source, **fields):
        return list_unlabelled_texts(Data(source=source, **fields), Clean(), seed=0)

    def texts(listing, split="train"):
        part = listing.parts[split]
        stream = part.stream(np.arange(len(part.ids)), None)
        return [example["texts"].numpy()[0].decode() for example in stream]

    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffone <b>1</b>\r\ntwo\n\ntwo\nthree\x0cfour\n".encode())
    listing = listed(f"texts:{file}")
    assert texts(listing) == ["one 1", "two", "three four"]
    assert listing.facts["dropped"] == {"empty": 1, "duplicate": 1, "in another split": 0}
    assert listing.all_faults() == [] and listing.class_names == ()

    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("b1\nb2")
    (folder / "deep" / "a.txt").write_text("a1")
    (folder / "other.md").write_text("not this")
    assert texts(listed(f"texts:{folder}")) == ["b1", "b2", "a1"]
    assert listed(f"texts:{folder}").parts["train"].ids == ("b[0]", "b[1]", "deep/a[0]")
    (folder / "train.txt").write_text("t\nv")
    (folder / "val.txt").write_text("v")
    listing = listed(f"texts:{folder}")
    assert (texts(listing), texts(listing, "validation")) == (["t"], ["v"])

    table = tmp_path / "table.csv"
    table.write_text("review,text_pair\nx,y\nz,\n")
    listing = listed(f"csv:{table}", columns={"text": "review"})
    assert texts(listing) == ["x", "y", "z"]
    same = Texts((["p", "p", "q"], ["left", "right", "left"]))
    assert texts(listed(same)) == ["p", "q"]


def test_texts_that_cannot_be_read_are_named(tmp_path, recipe):
    def fails(source, match):
        plan = dataclasses.replace(recipe, data=Data(source=source))
        with pytest.raises(DataError, match=match):
            build_task(plan).open_data(0)

    (tmp_path / "empty").mkdir()
    fails(f"texts:{tmp_path / 'empty'}", "a text file with one text per line")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    fails(f"texts:{tmp_path / 'latin.txt'}", "must be in UTF-8")
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    fails(f"texts:{tmp_path / 'few.txt'}", "at least 3 training examples")
    (tmp_path / "table.csv").write_text("review\nx\n")
    fails(f"csv:{tmp_path / 'table.csv'}", r"must have the columns text, or .* Missing: text")
    with pytest.raises(DataError, match=r"must name a file that exists.*texts:PATH"):
        Data(source="texts:nowhere.txt").require_path()


def test_recipes_that_do_not_fit_are_refused(recipe):
    wrong = dataclasses.replace(recipe, store=Store(views=2))
    with pytest.raises(RecipeError, match=r"`store.views` is not supported by MaskedLM"):
        wrong.validate()
    wrong = dataclasses.replace(recipe, data=Data(source="folder:photos"))
    with pytest.raises(RecipeError, match=r"`data.source` for MaskedLM must be one of texts, csv"):
        wrong.validate()
    classes = dataclasses.replace(recipe, task=TextClassification())
    with pytest.raises(RecipeError, match=r"`data.source` for TextClassification .* 'texts'"):
        classes.validate()
    for field, value in (("label_smoothing", 0.1), ("class_weights", "balanced")):
        stages = (dataclasses.replace(recipe.stages[0], **{field: value}),)
        with pytest.raises(RecipeError, match=rf"`stages.head.{field}` is not supported"):
            dataclasses.replace(recipe, stages=stages).validate()
    smoke = recipe.task.smoke_recipe(recipe)
    smoke.validate()
    assert (smoke.data.source, smoke.backbone.preset) == ("synthetic:3", "tiny:bert")


@pytest.mark.shared
@pytest.mark.slow
def test_a_hugging_face_folder_goes_through_and_back(shared_folder, tmp_path):
    source = Backbone(preset=f"hf:{shared_folder / 'weights' / 'minilm_l6_fp16'}")
    plan = Recipe(
        task=MaskedLM(sequence_length=32),
        data=Data(source=Texts((masked_lines(40), [0] * 40)), batch_size=8),
        backbone=source,
        stages=(Stage(name="top", steps=2, learning_rate=1e-4, unfreeze=1),),
    )
    plan = dataclasses.replace(
        plan, task=dataclasses.replace(plan.task, clean=Clean(duplicates=False))
    )
    run = sft_keras.finetune(plan, run_dir=tmp_path / "run")
    inputs = build_task(plan).encoder.encode(tf.constant(["A film to remember.", "Zürich"]))
    moved, first = (
        build_text_backbone(backbone, "tokens", 32).model(inputs).numpy()
        for backbone in (Backbone(preset=f"hub:{run.run_dir / 'preset'}"), source)
    )
    places = np.tile(np.arange(moved.shape[1], dtype=np.int32), (2, 1))
    trained = _backbone_of(run.model)
    expected = trained({**inputs, MASK_POSITIONS: tf.constant(places)}).numpy()
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    assert np.abs(moved - first).max() > 1e-4
    (answer,) = predict(run.run_dir, ["The film was [MASK]."])
    assert answer.label in answer.probabilities
