"""Words are found with their places, and the first piece of each stands for it."""

import numpy as np
import pytest
import tensorflow as tf

from sft_keras.recipe.backbone import Backbone
from sft_keras.tasks.token_classification.alignment import NO_TOKEN, align_tags, tokenize_words
from sft_keras.tasks.token_classification.words import natural_words, spaced_words
from sft_keras.text.encoder import build_encoder

TEXTS = [
    "(U.S.-led) forces, he said...",
    "",
    "  déjà\u00a0vu\t#tag @me ",
    "Zürich—Köln 東京 \U0001f600",
    "¡Hola!",
]
SPACED = [
    ["(U.S.-led)", "forces,", "he", "said..."],
    [],
    ["déjà", "vu", "#tag", "@me"],
    ["Zürich—Köln", "東京", "\U0001f600"],
    ["¡Hola!"],
]
NATURAL = [
    ["(", "U.S.-led", ")", "forces", ",", "he", "said", ".", ".", "."],
    [],
    ["déjà", "vu", "#", "tag", "@", "me"],
    ["Zürich—Köln", "東", "京", "\U0001f600"],
    ["¡", "Hola", "!"],
]


@pytest.mark.parametrize(("find", "expected"), [(spaced_words, SPACED), (natural_words, NATURAL)])
def test_words_stand_where_it_says(find, expected):
    found = tf.function(find, input_signature=[tf.TensorSpec([None], tf.string)])(TEXTS)
    words = [[word.decode() for word in row] for row in found.words.to_list()]
    assert words == expected
    for text, row, starts, ends in zip(TEXTS, words, found.starts.to_list(), found.ends.to_list()):
        assert [text[start:end] for start, end in zip(starts, ends)] == row
    empty = find(tf.constant([], tf.string))
    assert empty.words.to_list() == empty.ends.to_list() == []


def test_the_first_piece_carries_the_tag_and_what_is_cut_off_none():
    encoder = build_encoder(Backbone(preset="tiny:bert"), 8)  # pieces are letters
    words = tf.ragged.constant([["ab", "\u0007", "c", "de", "fg"], [], ["x"]], ragged_rank=1)
    words = tf.ragged.constant(words.to_list(), dtype=tf.string, ragged_rank=1)
    tags = tf.ragged.constant([[1, 2, 3, 4, 5], [], [6]], dtype=tf.int32, ragged_rank=1)
    found = tokenize_words(encoder, words)
    assert found.first_subtokens.to_list() == [[1, NO_TOKEN, 3, 4, 6], [], [1]]
    assert align_tags(found, tags).to_list() == [
        [-1, 1, -1, 3, 4, -1, 5, -1],
        [-1, -1],
        [-1, 6, -1],
    ]
    np.testing.assert_array_equal(found.tokens.lengths, [9, 2, 3])
    # As running text is split.
    whole = encoder.tokenize(tf.constant(["ab c de fg", "", "x"]))
    assert found.tokens.ids.to_list() == whole.ids.to_list()
    shorter = tokenize_words(build_encoder(Backbone(preset="tiny:bert"), 7), words)
    assert shorter.first_subtokens.to_list()[0] == [1, NO_TOKEN, 3, 4, NO_TOKEN]
