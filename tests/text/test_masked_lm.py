"""Masked language modelling: what is masked, what trains, and the preset that is left behind."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import sft_keras
from sft_keras import Backbone, Data, Recipe, Stage, Store, Texts
from sft_keras.backbones.text import MASK_POSITIONS, build_text_backbone, tiny_vocabulary
from sft_keras.data.unlabelled_texts import list_unlabelled_texts
from sft_keras.errors import DataError, RecipeError
from sft_keras.freezing import may_move, set_trainable
from sft_keras.predict import predict
from sft_keras.tasks import Clean, MaskedLM, TextClassification
from sft_keras.text.encoder import Special, TextEncoder
from sft_keras.text.fill_in import gap_inputs
from sft_keras.text.masked_lm_head import MaskedAccuracy, MaskedLoss
from sft_keras.text.masked_lm_scores import MaskedAnswers, masked_lm_figures
from sft_keras.text.masking import UNUSED, build_masking
from sft_keras.training import build_staged

LENGTH = 32


def made_lines(count):
    """Texts of two letters in turn: what is masked can be told by its neighbours."""
    draw = np.random.default_rng(0)
    pairs = ["ab", "cd", "ef"]
    return [" ".join(pairs[n % 3] * int(draw.integers(3, 7))) for n in range(count)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "lines.txt"
    lines = [f"{line}{' ' + chr(97 + n % 26)}" for n, line in enumerate(made_lines(200))]
    file.write_text("\n".join(lines) + "\n")
    return Recipe(
        task=MaskedLM(sequence_length=LENGTH, share=0.2, clean=Clean(duplicates=False)),
        data=Data(source=f"texts:{file}", batch_size=16),
        backbone=Backbone(preset="tiny:bert"),
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="all", epochs=7, learning_rate=1e-2, unfreeze="all"),
        ),
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return sft_keras.finetune(recipe, run_dir=tmp_path_factory.mktemp("runs") / "masked")


@pytest.fixture(scope="module")
def prepared(recipe):
    splits = recipe.task.open_data(recipe, seed=0)
    return recipe.task.prepare(splits, recipe, lambda done, total: None)


# What is masked


@pytest.fixture(scope="module")
def encoder(recipe):
    return recipe.task.encoder(recipe)


def some_inputs(encoder, *texts):
    return encoder.inputs(tf.constant(texts))


def test_so_many_tokens_of_each_text_are_to_be_told_and_special_ones_never(encoder):
    texts = ["a" * size for size in (0, 1, 3, 10, 17, 30)]
    inputs = some_inputs(encoder, *texts)
    masking = build_masking(encoder, 0.15)
    masked, targets = masking(inputs, tf.range(6, dtype=tf.int64), tf.constant([0, 0], tf.int64))
    assert (targets.numpy() != UNUSED).sum(axis=1).tolist() == [0, 1, 1, 2, 3, 5]
    original, shown = inputs["token_ids"].numpy(), masked["token_ids"].numpy()
    for row, (places, told) in enumerate(zip(masked[MASK_POSITIONS].numpy(), targets.numpy())):
        places = places[told != UNUSED]
        assert len(set(places)) == len(places)
        np.testing.assert_array_equal(original[row, places], told[told != UNUSED])
        assert all(1 <= place <= len(texts[row]) for place in places)
        rest = np.setdiff1d(np.arange(shown.shape[1]), places)
        np.testing.assert_array_equal(shown[row, rest], original[row, rest])
    for name in ("padding_mask", "segment_ids"):
        np.testing.assert_array_equal(masked[name], inputs[name])


def test_eight_of_ten_are_masked_one_is_random_and_one_stays(encoder):
    inputs = some_inputs(encoder, *["abcdefgh" * 3] * 1500)
    masking = tf.function(build_masking(encoder, 0.5), autograph=False)
    seed = tf.constant([1, 2], tf.int64)
    masked, targets = masking(inputs, tf.range(1500, dtype=tf.int64), seed)
    shown = tf.gather(masked["token_ids"], masked[MASK_POSITIONS], batch_dims=1).numpy()
    used = targets.numpy() != UNUSED
    shown, told = shown[used], targets.numpy()[used]
    assert len(told) == 1500 * 12
    words = len(tiny_vocabulary())
    is_mask, is_same = shown == encoder.special.mask, shown == told
    # Within 5 standard errors; a random token is the mask, or the one that stood there, by chance.
    assert is_mask.mean() == pytest.approx(0.8 + 0.1 / words, abs=5 * (0.16 / len(told)) ** 0.5)
    assert is_same.mean() == pytest.approx(0.1 + 0.1 / words, abs=5 * (0.09 / len(told)) ** 0.5)
    randoms = shown[~is_mask & ~is_same]
    assert randoms.min() == 0 and randoms.max() == words - 1
    assert len(np.unique(randoms)) > 0.95 * words
    places = masked[MASK_POSITIONS].numpy()[used]
    counts = np.bincount(places, minlength=25)[1:25]
    assert counts.min() > 0.85 * counts.mean()  # every place alike


def test_what_is_masked_depends_on_seed_and_index_and_not_on_the_company(encoder):
    masking = build_masking(encoder, 0.3)
    seed, other = (tf.constant([0, number], tf.int64) for number in (0, 1))

    def told(texts, indices, seed=seed):
        numbers = tf.constant(indices, tf.int64)
        masked, targets = masking(some_inputs(encoder, *texts), numbers, seed)
        return [
            (sorted(zip(places[row != UNUSED], row[row != UNUSED])), ids[: len(text) + 2].tolist())
            for text, places, row, ids in zip(
                texts, masked[MASK_POSITIONS].numpy(), targets.numpy(), masked["token_ids"].numpy()
            )
        ]

    text, long = "abcdefghij", "z" * 30
    (alone,) = told([text], [7])
    assert told([long, text], [3, 7])[1] == alone
    assert told([text], [8])[0] != alone
    assert told([text], [7], other)[0] != alone


def test_epochs_differ_and_can_be_had_again_and_evaluation_is_always_the_same(recipe, prepared):
    task, info = recipe.task, None

    def epochs(recipe, stage):
        """The texts of two epochs, and what is masked of each, as {text and copy: what}."""
        steps = -(-len(prepared["train"].examples) // 16)
        found = [{}, {}]
        batches = task.training_batches(prepared["train"], recipe, stage, info).take(2 * steps)
        for step, (inputs, targets) in enumerate(batches):
            places, ids = inputs[MASK_POSITIONS].numpy(), inputs["token_ids"].numpy().copy()
            for shown, where, told in zip(ids, places, targets.numpy()):
                shown[where[told != UNUSED]] = told[told != UNUSED]
                text = tuple(shown[shown > 0])
                where = tuple(sorted(where[told != UNUSED]))
                found[step // steps].setdefault(text, []).append(where)
        return [{text: sorted(each) for text, each in epoch.items()} for epoch in found]

    head, top = recipe.stages
    first, second = epochs(recipe, head)
    assert first.keys() == second.keys() and len(first) > 50
    differing = sum(first[text] != second[text] for text in first)
    assert differing > 0.9 * len(first)
    assert [first, second] == epochs(recipe, head)
    assert [first, second] != epochs(recipe, top)
    reseeded = dataclasses.replace(recipe, seed=1)
    assert [first, second] != epochs(reseeded, head)

    def validation(recipe):
        batches = task.evaluation_batches(prepared["validation"], recipe, info)
        return [inputs["token_ids"].numpy().tolist() for inputs, _ in batches]

    assert validation(recipe) == validation(reseeded)


# Loss and figures


def test_the_loss_is_the_mean_over_the_places_that_are_used():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(3, 4, 5)).astype(np.float32)
    targets = np.array([[0, 1, -1, -1], [4, -1, -1, -1], [-1, -1, -1, -1]], np.int32)
    used = targets >= 0
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.log(softmax[used, targets[used]]).mean()
    assert float(MaskedLoss()(targets, logits)) == pytest.approx(expected, rel=1e-5)
    accuracy = MaskedAccuracy(name="accuracy")
    logits[0, 0] = [9, 0, 0, 0, 0]
    logits[0, 1] = logits[1, 0] = [0, 0, 9, 0, 0]
    accuracy.update_state(targets[:1], logits[:1])
    accuracy.update_state(targets[1:], logits[1:])
    assert float(accuracy.result()) == pytest.approx(1 / 3)
    assert np.isfinite(float(MaskedLoss()(targets[2:], logits[2:])))


def test_the_interval_is_that_of_texts_drawn_anew():
    rows = np.repeat(np.arange(40), 5)
    right = rows < 20  # all tokens of a text are right, or none

    def figures(rows):
        given = MaskedAnswers(rows, np.ones(200), right, np.full(200, -np.log(8.0)), right, None)
        return masked_lm_figures(given, 40, seed=0)

    alike = figures(rows)
    assert alike["loss"] == pytest.approx(np.log(8)) and alike["perplexity"] == pytest.approx(8)
    assert alike["accuracy"]["value"] == 0.5 and alike["tokens"] == 200
    width = alike["accuracy"]["high"] - alike["accuracy"]["low"]
    assert width == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.15)
    mixed = figures(np.arange(200) % 40)["accuracy"]
    assert mixed["high"] - mixed["low"] < 0.6 * width


# The model


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
    staged = MaskedLM().build_model(built, None)
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


def test_the_tied_embedding_trains_with_its_block_and_not_with_the_head(recipe, prepared):
    splits = recipe.task.open_data(recipe, seed=0)
    staged = build_staged(recipe, recipe.task.build_backbone(recipe), splits.info)
    head = {"transform/kernel", "transform/bias", "transform_norm/gamma", "transform_norm/beta"}
    head |= {"logits/bias"}
    table = "token_embedding/embeddings"
    for unfreeze in (0, "all", 1, "all", 0):
        stage = Stage(name="x", epochs=1, learning_rate=1e-3, unfreeze=unfreeze)
        set_trainable(staged, stage)
        trains = [v.path for v in staged.for_stage(unfreeze).trainable_variables]
        assert len(set(trains)) == len(trains)
        assert set(trains) == set(may_move(staged, stage))
        assert head <= set(trains) and (table in trains) == (unfreeze == "all")
        assert unfreeze != 0 or set(trains) == head


# A run


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
    assert head["frozen_blocks"] == "computed in every epoch: what is read is drawn anew each time"
    assert head["audit"]["frozen_identical"] and head["audit"]["moved_variables"] == 5
    assert "token_embedding" in top["audit"]["trained_layers"]
    page = (run.run_dir / "report.html").read_text(encoding="utf-8")
    assert f"{head['start']['loss']:.4f}" in page and f"{run.metrics['perplexity']:.2f}" in page
    assert run.report["mistakes"] and run.report["mistakes"][0]["text"] in page
    splits = json.loads((run.run_dir / "splits.json").read_text())
    assert not splits["class_names"] and "class" not in splits["origin"]["test"]


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
    inputs = plan.task.encoder(plan).inputs(texts)
    for name, each in recipe.task.encoder(recipe).inputs(texts).items():
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


def test_the_exported_model_fills_gaps_as_the_trained_one_does(run, recipe):
    assert run.report["export"]["checked"] == 20
    assert run.report["export"]["largest_difference"] < 1e-5
    answers = list(predict(run.run_dir, ["a b a [MASK] a b", "c d c d c [MASK] c d"]))
    encoder = recipe.task.encoder(recipe)
    for answer in answers:
        inputs = gap_inputs(encoder, tf.constant([answer.input]))
        expected = run.model(inputs).numpy()[0, 0]
        best = {tiny_vocabulary()[each]: expected[each] for each in np.argsort(-expected)[:5]}
        assert answer.probabilities.keys() == best.keys()
        assert answer.label == next(iter(best))
    assert [answer.label for answer in answers] == ["b", "d"]


# The gap


def test_a_gap_is_where_the_text_says_or_at_its_end(encoder):
    texts = ["ab [MASK]c", "[MASK] a", "ab", "a [MASK] b [MASK]", "[MASK]"]
    inputs = gap_inputs(encoder, tf.constant(texts))
    vocabulary = encoder.vocabulary()
    words = [
        [vocabulary[token] for token in row[mask > 0]]
        for row, mask in zip(inputs["token_ids"].numpy(), inputs["padding_mask"].numpy())
    ]
    assert words[0] == ["[CLS]", "a", "##b", "[MASK]", "c", "[SEP]"]
    assert words[1] == ["[CLS]", "[MASK]", "a", "[SEP]"]
    assert words[2] == ["[CLS]", "a", "##b", "[MASK]", "[SEP]"]
    assert words[3][:5] == ["[CLS]", "a", "[MASK]", "b", "["]  # another is text
    assert words[4] == ["[CLS]", "[MASK]", "[SEP]"]
    assert inputs[MASK_POSITIONS].numpy().ravel().tolist() == [3, 1, 3, 2, 1]
    assert not inputs["segment_ids"].numpy().any()


@pytest.mark.parametrize("ends_twice", [False, True])
def test_long_texts_keep_their_gap_whatever_stands_between_pairs(encoder, ends_twice):
    special = Special(pad=0, start=2, end=3, mask=4)
    own = TextEncoder(
        encoder.pieces, special, sequence_length=12, has_segments=False, ends_twice=ends_twice
    )
    inputs = gap_inputs(own, tf.constant(["a" * 30 + "[MASK]" + "b" * 30, "ab [MASK] c"]))
    kept = 12 - 3 - ends_twice
    for row, place, pieces in zip(
        inputs["token_ids"].numpy(), inputs[MASK_POSITIONS].numpy()[:, 0], (kept, 3)
    ):
        row = row[row != 0]
        assert row[place] == 4 and (row == 4).sum() == 1
        assert len(row) == pieces + 3 and row[0] == 2 and row[-1] == 3 and (row == 3).sum() == 1


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
            plan.task.open_data(plan, seed=0)

    (tmp_path / "empty").mkdir()
    fails(f"texts:{tmp_path / 'empty'}", "a file with a text a line, or a folder with .txt files")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    fails(f"texts:{tmp_path / 'latin.txt'}", "must be a text file in UTF-8")
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    fails(f"texts:{tmp_path / 'few.txt'}", "at least 3 training examples")
    (tmp_path / "table.csv").write_text("review\nx\n")
    fails(f"csv:{tmp_path / 'table.csv'}", r"must have the columns text, or .* Missing: text")
    with pytest.raises(DataError, match=r"must name a file that exists.*texts:PATH"):
        Data(source="texts:nowhere.txt").require_path()


def test_recipes_that_do_not_fit_are_refused(recipe):
    wrong = dataclasses.replace(recipe, store=Store(views=2))
    with pytest.raises(RecipeError, match=r"`store.views` is not for MaskedLM"):
        wrong.validate()
    wrong = dataclasses.replace(recipe, data=Data(source="folder:photos"))
    with pytest.raises(RecipeError, match=r"`data.source` for MaskedLM must be one of texts, csv"):
        wrong.validate()
    classes = dataclasses.replace(recipe, task=TextClassification())
    with pytest.raises(RecipeError, match=r"`data.source` for TextClassification .* 'texts'"):
        classes.validate()
    for field, value in (("label_smoothing", 0.1), ("class_weights", "balanced")):
        stages = (dataclasses.replace(recipe.stages[0], **{field: value}),)
        with pytest.raises(RecipeError, match=rf"`stages.head.{field}` is of no use to MaskedLM"):
            dataclasses.replace(recipe, stages=stages).validate()
    smoke = recipe.task.for_smoke(recipe)
    smoke.validate()
    assert (smoke.data.source, smoke.backbone.preset) == ("synthetic:3", "tiny:bert")


@pytest.mark.shared
@pytest.mark.slow
def test_a_hugging_face_folder_goes_through_and_back(shared_folder, tmp_path):
    source = Backbone(preset=f"hf:{shared_folder / 'weights' / 'minilm_l6_fp16'}")
    plan = Recipe(
        task=MaskedLM(sequence_length=32),
        data=Data(source=Texts((made_lines(40), [0] * 40)), batch_size=8),
        backbone=source,
        stages=(Stage(name="top", steps=2, learning_rate=1e-4, unfreeze=1),),
    )
    plan = dataclasses.replace(
        plan, task=dataclasses.replace(plan.task, clean=Clean(duplicates=False))
    )
    run = sft_keras.finetune(plan, run_dir=tmp_path / "run")
    inputs = plan.task.encoder(plan).inputs(tf.constant(["A film to remember.", "Zürich"]))
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
