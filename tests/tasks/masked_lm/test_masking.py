"""What is masked of texts, how answers about it are scored, and texts with a gap to fill."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from sft_keras import Backbone, Data, Recipe, Stage, Texts
from sft_keras.backbones.text import MASK_POSITIONS, tiny_vocabulary
from sft_keras.tasks import Clean, MaskedLM
from sft_keras.tasks.base import build_task
from sft_keras.tasks.masked_lm.head import MaskedAccuracy, MaskedLoss
from sft_keras.tasks.masked_lm.masking import IGNORE_INDEX, build_masking
from sft_keras.tasks.masked_lm.metrics import MaskedTokenPredictions, masked_lm_metrics
from sft_keras.tasks.masked_lm.signatures import fill_mask_inputs
from sft_keras.text.encoder import SpecialTokens, TextEncoder


@pytest.fixture(scope="module")
def recipe():
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abc "), draw.integers(6, 30))) for _ in range(160)]
    return Recipe(
        task=MaskedLM(sequence_length=32, share=0.2, clean=Clean(duplicates=False)),
        data=Data(source=Texts((texts, [0] * 160)), batch_size=16),
        backbone=Backbone(preset="tiny:bert"),
        stages=(
            Stage(name="head", epochs=1, learning_rate=1e-2),
            Stage(name="all", epochs=1, learning_rate=1e-2, unfreeze="all"),
        ),
    )


@pytest.fixture(scope="module")
def prepared(recipe):
    splits = build_task(recipe).open_data(0)
    return build_task(recipe, splits.info).preprocessor.preprocess(splits, lambda done, total: None)


# What is masked


@pytest.fixture(scope="module")
def encoder(recipe):
    return build_task(recipe).encoder


def some_inputs(encoder, *texts):
    return encoder.encode(tf.constant(texts))


def test_so_many_tokens_of_each_text_are_to_be_told_and_special_ones_never(encoder):
    texts = ["a" * size for size in (0, 1, 3, 10, 17, 30)]
    inputs = some_inputs(encoder, *texts)
    masking = build_masking(encoder, 0.15)
    masked, targets = masking(inputs, tf.range(6, dtype=tf.int64), tf.constant([0, 0], tf.int64))
    assert (targets.numpy() != IGNORE_INDEX).sum(axis=1).tolist() == [0, 1, 1, 2, 3, 5]
    original, shown = inputs["token_ids"].numpy(), masked["token_ids"].numpy()
    for row, (places, told) in enumerate(zip(masked[MASK_POSITIONS].numpy(), targets.numpy())):
        places = places[told != IGNORE_INDEX]
        assert len(set(places)) == len(places)
        np.testing.assert_array_equal(original[row, places], told[told != IGNORE_INDEX])
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
    used = targets.numpy() != IGNORE_INDEX
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
            (
                sorted(zip(places[row != IGNORE_INDEX], row[row != IGNORE_INDEX])),
                ids[: len(text) + 2].tolist(),
            )
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
    def epochs(recipe, stage):
        """The texts of two epochs, and what is masked of each, as {text and copy: what}."""
        steps = -(-len(prepared["train"].examples) // 16)
        found = [{}, {}]
        batches = build_task(recipe).batches.training(prepared["train"], stage).take(2 * steps)
        for step, (inputs, targets) in enumerate(batches):
            places, ids = inputs[MASK_POSITIONS].numpy(), inputs["token_ids"].numpy().copy()
            for shown, where, told in zip(ids, places, targets.numpy()):
                shown[where[told != IGNORE_INDEX]] = told[told != IGNORE_INDEX]
                text = tuple(shown[shown > 0])
                where = tuple(sorted(where[told != IGNORE_INDEX]))
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
        batches = build_task(recipe).batches.evaluation(prepared["validation"])
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
        given = MaskedTokenPredictions(
            rows, np.ones(200), right, np.full(200, -np.log(8.0)), right, None
        )
        return masked_lm_metrics(given, 40, seed=0)

    alike = figures(rows)
    assert alike["loss"] == pytest.approx(np.log(8)) and alike["perplexity"] == pytest.approx(8)
    assert alike["accuracy"]["value"] == 0.5 and alike["tokens"] == 200
    width = alike["accuracy"]["high"] - alike["accuracy"]["low"]
    assert width == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=0.15)
    mixed = figures(np.arange(200) % 40)["accuracy"]
    assert mixed["high"] - mixed["low"] < 0.6 * width


# The gap


def test_a_gap_is_where_the_text_says_or_at_its_end(encoder):
    texts = ["ab [MASK]c", "[MASK] a", "ab", "a [MASK] b [MASK]", "[MASK]"]
    inputs = fill_mask_inputs(encoder, tf.constant(texts))
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


@pytest.mark.parametrize("ends_twice", [pytest.param(False, marks=pytest.mark.slow), True])
def test_long_texts_keep_their_gap_whatever_stands_between_pairs(encoder, ends_twice):
    special = SpecialTokens(pad=0, start=2, end=3, mask=4)
    own = TextEncoder(
        encoder.pieces, special, sequence_length=12, has_segments=False, ends_twice=ends_twice
    )
    inputs = fill_mask_inputs(own, tf.constant(["a" * 30 + "[MASK]" + "b" * 30, "ab [MASK] c"]))
    kept = 12 - 3 - ends_twice
    for row, place, pieces in zip(
        inputs["token_ids"].numpy(), inputs[MASK_POSITIONS].numpy()[:, 0], (kept, 3)
    ):
        row = row[row != 0]
        assert row[place] == 4 and (row == 4).sum() == 1
        assert len(row) == pieces + 3 and row[0] == 2 and row[-1] == 3 and (row == 3).sum() == 1
