"""Random changes to tokens are a function of the seed and touch nothing but ordinary tokens."""

import numpy as np
import pytest
import tensorflow as tf

from sft_keras.tasks import TextAugment
from sft_keras.tasks.text_classification.augmentation import build_text_augmentation
from sft_keras.text.encoder import SpecialTokens

SPECIAL = SpecialTokens(pad=0, start=1, end=2, mask=3)
WIDTH, ROWS = 40, 50


@pytest.fixture(scope="module")
def inputs():
    """Rows of 10 to 40 tokens; each ordinary one is a number of its own."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(10, WIDTH + 1, ROWS)
    mask = np.arange(WIDTH) < sizes[:, None]
    ids = np.tile(np.arange(10, 10 + WIDTH), (ROWS, 1)) * mask
    ids[:, 0] = SPECIAL.start
    ids[np.arange(ROWS), sizes - 1] = SPECIAL.end
    segments = (np.arange(WIDTH) >= sizes[:, None] // 2) & mask
    named = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
    return {name: tf.constant(each.astype(np.int32)) for name, each in named.items()}


def changed(inputs, seed=0, **fields):
    apply = build_text_augmentation(TextAugment(**fields), SPECIAL)
    labels = tf.ones([ROWS, 2])
    found, same = tf.function(apply)(inputs, labels, tf.constant([seed, 1], tf.int64))
    np.testing.assert_array_equal(same, labels)
    return {name: each.numpy() for name, each in found.items()}


def ordinary(ids):
    return ids >= 10


def test_nothing_asked_for_is_nothing_done():
    assert build_text_augmentation(TextAugment(), SPECIAL) is None


def test_the_share_of_tokens_is_masked(inputs):
    found = changed(inputs, mask=0.3)
    before = inputs["token_ids"].numpy()
    is_masked = found["token_ids"] == SPECIAL.mask
    assert ordinary(before)[is_masked].all()
    np.testing.assert_array_equal(found["token_ids"][~is_masked], before[~is_masked])
    assert 0.25 < is_masked.sum() / ordinary(before).sum() < 0.35


def test_the_share_of_tokens_changes_places_with_the_next(inputs):
    before, found = inputs["token_ids"].numpy(), changed(inputs, swap=0.3)["token_ids"]
    moved = before != found
    assert ordinary(before)[moved].all()
    assert 0.2 < moved.sum() / ordinary(before).sum() < 0.4
    for row, old in zip(found, before):
        assert sorted(row) == sorted(old)
        assert max(np.abs(row - old)) <= 1  # tokens are numbered by their places


def test_pairs_to_swap_begin_at_any_place(inputs):
    before = inputs["token_ids"].numpy()
    found = [changed(inputs, seed=seed, swap=0.9)["token_ids"] for seed in range(6)]
    assert {int(np.flatnonzero(row[0] > before[0])[0]) for row in found} == {1, 2}


def test_the_share_of_tokens_is_left_out_and_the_others_move_up(inputs):
    before, found = inputs["token_ids"].numpy(), changed(inputs, delete=0.3)
    left = ordinary(found["token_ids"]).sum() / ordinary(before).sum()
    assert 0.65 < left < 0.75
    for row, old, mask in zip(found["token_ids"], before, found["padding_mask"]):
        size = mask.sum()
        np.testing.assert_array_equal(mask, np.arange(WIDTH) < size)
        assert (row[0], row[size - 1]) == (SPECIAL.start, SPECIAL.end)
        assert (np.diff(row[1 : size - 1]) > 0).all() and set(row[:size]) <= set(old)
        assert not row[size:].any()
    assert not found["segment_ids"][found["padding_mask"] == 0].any()


def test_the_seed_alone_decides(inputs):
    fields = {"mask": 0.1, "swap": 0.1, "delete": 0.1}
    one, same, other = (changed(inputs, seed=seed, **fields)["token_ids"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
